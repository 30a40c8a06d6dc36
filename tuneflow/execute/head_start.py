"""The head start of trial 0: epochs that were trained in a check before it are reported, and not trained again."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.trial import Report, Slice
from tuneflow.runtime.ray_runtime import RayRuntime
from tuneflow.runtime.runtime import Runtime
from tuneflow.space.search_space import Config
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True)
class Begun:
    """The first epochs of trial 0, trained under its job before it was started.

    Attributes:
        config: the configuration that was trained.
        epochs: state and report after each epoch.
    """

    config: Config
    epochs: Sequence[tuple[TrainState, Report]]


def trains_alike(runtime: Runtime) -> bool:
    """True if this process, with the runtime's threads, trains to the same bits as the runtime's executor."""
    plain = runtime.executor is None and not isinstance(runtime, RayRuntime)
    return plain and (runtime.workers == 1 or runtime.device.type == "cpu")


class HeadStart:
    """Wraps an executor so that trial 0 begins with epochs that were trained already.

    They are reported one by one, as if they were trained now, so that decisions between them are the same. The executor
    trains on from the state after the last of them.

    Args:
        executor: where slices are trained.
        begun: the epochs, taken for slices of trial 0 whose configuration is theirs.
        config: returns the configuration of a trial.
    """

    def __init__(self, executor: Executor, begun: Begun, config: Callable[[int], Config]) -> None:
        self._executor, self._config = executor, config
        self._begun: Begun | None = begun  # None once all of it was reported
        self._left: deque[Reported] = deque()  # to be reported next
        self._rest: tuple[Slice, TrainerProtocol, Job] | None = None  # the slice that they are the beginning of

    @property
    def free(self) -> int:
        """Number of slices that it can take."""
        return self._executor.free - len(self._waiting)

    @property
    def busy(self) -> int:
        """Number of slices under way."""
        return self._executor.busy + len(self._waiting)

    @property
    def _waiting(self) -> list[Slice]:
        return [] if self._rest is None else [self._rest[0]]

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice, as Executor.submit."""
        self._left.extend(self._beginning(work))
        if self._left and work.trial == 0:
            self._rest = (work, trainer, job)
        else:
            self._executor.submit(work, trainer, job, state)

    def wait(self) -> list[Event]:
        """Return the next epoch of trial 0 that was trained already, or the executor's events."""
        if self._rest is None:
            return self._executor.wait()
        event, (work, trainer, job) = self._left.popleft(), self._rest
        if self._left:
            return [event]
        self._rest, reached = None, event.report.epoch
        if self._begun is not None and reached == self._begun.epochs[-1][1].epoch:
            self._begun = None  # its states are in the study's care
        if reached >= work.until:
            return [event, Ended(0, "DONE")]
        self._executor.submit(Slice(0, reached, work.until), trainer, job, event.state)
        return [event]

    def _beginning(self, work: Slice) -> list[Reported]:
        """Return the epochs of a slice that were trained already."""
        if self._begun is None or work.trial != 0 or self._config(0) != self._begun.config:
            return []
        epochs = [Reported(0, report, state) for state, report in self._begun.epochs]
        return [event for event in epochs if work.start < event.report.epoch <= work.until]

    def stop(self, trial: int) -> None:
        """Drop the trial's slice, as Executor.stop."""
        if self._rest is not None and trial == 0:
            self._rest = None
            self._left.clear()
        else:
            self._executor.stop(trial)

    def close(self) -> None:
        """Drop every slice, as Executor.close."""
        self._rest = None
        self._left.clear()
        self._executor.close()
