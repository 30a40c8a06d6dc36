"""Executor: the seam between deciding and training. It takes slices and gives back events."""

from dataclasses import dataclass
from typing import Literal, Protocol

from tuneflow.history.trial import Report, Slice
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True, slots=True)
class Reported:
    """A trial finished an epoch; `state` is where it stands."""

    trial: int
    report: Report
    state: TrainState


@dataclass(frozen=True, slots=True)
class Ended:
    """A slice is over: it reached its end (DONE), its trainer stopped it for a reason, or it diverged or failed.

    Attributes:
        seconds: wall-clock time since its last report.
    """

    trial: int
    status: Literal["DONE", "STOPPED", "DIVERGED", "FAILED"]
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0


Event = Reported | Ended


class Executor(Protocol):
    """Takes slices and gives back events; where and how they are trained is its own affair."""

    @property
    def free(self) -> int:
        """How many more slices it can take now."""
        ...

    @property
    def busy(self) -> int:
        """How many slices are under way."""
        ...

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice; `state` is where it starts, None for a new trial."""
        ...

    def wait(self) -> list[Event]:
        """Block until something happened; events of one trial come in order."""
        ...

    def stop(self, trial: int) -> None:
        """Drop the trial's slice after the last epoch reported; no event follows."""
        ...

    def close(self) -> None:
        """Drop every slice and give back what is held."""
        ...
