"""The inline executor: one slice at a time, in the calling process."""

import gc
import time
import traceback

from tuneflow.errors import Diverged, in_one_line
from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.guard import Guarded
from tuneflow.history.trial import Report, Slice
from tuneflow.runtime.devices import check_responds
from tuneflow.runtime.retries import OUT_OF_MEMORY, names_of
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.checked_epochs import checked_epochs
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Epochs, TrainerProtocol

SHORT = 60  # characters of a note that is part of a reason, such as `in replica 1`


class InlineExecutor:
    """Trains in the calling process; `wait` trains one epoch."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._work: tuple[Slice, Epochs] | None = None
        self._failed = False  # the last slice did

    @property
    def free(self) -> int:
        return 1 if self._work is None else 0

    @property
    def busy(self) -> int:
        return 0 if self._work is None else 1

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        if self._work is not None:
            raise RuntimeError(
                f"trial {self._work[0].trial} is under way; the inline executor takes one slice at a time"
            )
        if self._failed:
            check_responds(self._runtime.device)
        self._failed = False
        self._work = (work, checked_epochs(trainer, job, state, work.until))

    def wait(self) -> list[Event]:
        if self._work is None:
            return []
        work, epochs = self._work
        started = time.perf_counter()
        try:
            with Guarded(), self._runtime.active():
                state, report = next(epochs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: it fails its trial, and not the program
            self._work, self._failed = None, True
            end = ended(work.trial, error, time.perf_counter() - started)
        else:
            return self._reported(work, state, report)
        if OUT_OF_MEMORY in end.kinds:
            gc.collect()  # what cycles through the traceback still hold
        return [end]

    def _reported(self, work: Slice, state: TrainState, report: Report) -> list[Event]:
        events: list[Event] = [Reported(work.trial, report, state)]
        if report.epoch >= work.until:
            self._work = None
            events.append(Ended(work.trial, "DONE"))
        return events

    def stop(self, trial: int) -> None:
        if self._work is not None and self._work[0].trial == trial:
            self._work = None

    def close(self) -> None:
        self._work = None


def ended(trial: int, error: BaseException, seconds: float) -> Ended:
    """Return the end of a slice that raised `error`; a StopIteration carries the trainer's own reason."""
    if isinstance(error, Diverged):
        reason = " ".join([str(error), *getattr(error, "__notes__", ())])  # in which replica and fold
        return Ended(trial, "DIVERGED", reason, seconds=seconds)
    if isinstance(error, StopIteration):
        if error.value:
            return Ended(trial, "STOPPED", error.value, seconds=seconds)
        return Ended(
            trial, "FAILED", "the trainer stopped before the end of its slice and gave no reason", seconds=seconds
        )
    detail = _encodable("".join(traceback.format_exception(error)))
    where = [note for note in getattr(error, "__notes__", ()) if len(note) <= SHORT and "\n" not in note]
    reason = in_one_line(error) + "".join(f" ({note})" for note in where)
    return Ended(trial, "FAILED", _encodable(reason), detail, seconds, names_of(error))


def _encodable(text: str) -> str:
    """Escape what UTF-8 cannot encode, such as undecodable bytes in file names."""
    return text.encode("utf-8", "backslashreplace").decode()
