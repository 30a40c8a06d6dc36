"""Executor: the seam between deciding and training; it takes slices and returns events."""

from dataclasses import dataclass
from typing import Literal, Protocol

from tuneflow.history.trial import Report, Slice
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True, slots=True)
class Reported:
    """The event that a trial finished an epoch.

    Attributes:
        trial: its number.
        report: the epoch's metrics.
        state: the training state after the epoch.
    """

    trial: int
    report: Report
    state: TrainState


@dataclass(frozen=True, slots=True)
class Ended:
    """The event that a slice is over: at its end (DONE), stopped by its trainer, diverged, or failed.

    Attributes:
        trial: its number.
        status: DONE, STOPPED, DIVERGED or FAILED.
        reason: in one line; empty for DONE.
        detail: the traceback of a failure.
        seconds: wall-clock time since its last report.
        kinds: names of the class of the exception that it failed with, and of those that derives from; see
            `tuneflow.runtime.retries`.
    """

    trial: int
    status: Literal["DONE", "STOPPED", "DIVERGED", "FAILED"]
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    kinds: tuple[str, ...] = ()


Event = Reported | Ended


class Executor(Protocol):
    """Six verbs that take slices and return events; where and how a slice is trained is up to the executor."""

    @property
    def free(self) -> int:
        """The number of slices that it can take now."""
        ...

    @property
    def busy(self) -> int:
        """The number of slices under way."""
        ...

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice to train.

        Args:
            work: trial, first and last epoch.
            trainer: keeps the trainer protocol.
            job: what is trained.
            state: where to start; None for a new trial.

        Raises:
            RuntimeError: nothing is free.
        """
        ...

    def wait(self) -> list[Event]:
        """Block until there are events, and return them; those of one trial come in order."""
        ...

    def stop(self, trial: int) -> None:
        """Drop the trial's slice after the last epoch reported; no event follows."""
        ...

    def close(self) -> None:
        """Drop every slice and release all resources."""
        ...
