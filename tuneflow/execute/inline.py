"""The inline executor: one slice at a time, in this process, epoch by epoch."""

import traceback
from collections.abc import Iterator

from tuneflow.errors import Diverged
from tuneflow.execute.executor import Ended, Event, Reported, Trains
from tuneflow.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.trial import Report, Slice


class Inline:
    """Trains in the calling process; `wait` trains one epoch."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._slice: Slice | None = None
        self._epochs: Iterator[tuple[TrainState, Report]] = iter(())

    @property
    def free(self) -> int:
        return 1 if self._slice is None else 0

    @property
    def busy(self) -> int:
        return 0 if self._slice is None else 1

    def submit(self, work: Slice, trainer: Trains, job: Job, state: TrainState | None) -> None:
        if self._slice is not None:
            raise RuntimeError(f"trial {self._slice.trial} is under way; the inline executor takes one slice at a time")
        self._slice = work
        self._epochs = _epochs(trainer, job, state, work.until)

    def wait(self) -> list[Event]:
        work = self._slice
        if work is None:
            return []
        try:
            with self._runtime.active():
                state, report = next(self._epochs)
        except Exception as error:
            self.stop(work.trial)
            return [ended(work.trial, error)]
        events: list[Event] = [Reported(work.trial, report, state)]
        if report.epoch >= work.until:
            self.stop(work.trial)
            events.append(Ended(work.trial, "DONE"))
        return events

    def stop(self, trial: int) -> None:
        if self._slice is not None and self._slice.trial == trial:
            self._slice, self._epochs = None, iter(())

    def close(self) -> None:
        self._slice, self._epochs = None, iter(())


def ended(trial: int, error: Exception) -> Ended:
    """How a slice ended that raised `error`."""
    if isinstance(error, Diverged):
        return Ended(trial, "DIVERGED", str(error))
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, StopIteration):
        reason = "the trainer stopped before the end of its slice"
    return Ended(trial, "FAILED", reason, "".join(traceback.format_exception(error)))


def _epochs(trainer: Trains, job: Job, state: TrainState | None, until: int) -> Iterator[tuple[TrainState, Report]]:
    yield from trainer.advance(job, trainer.init(job) if state is None else state, until)
