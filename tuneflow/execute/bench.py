"""The bench of a worker, wherever it is: what it was sent, and the slice that it trains as the inline executor does."""

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Event, Trains
from tuneflow.execute.inline import Inline, ended
from tuneflow.execute.wire import Unreadable, loaded
from tuneflow.model import Model
from tuneflow.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.trial import Slice


@dataclass(frozen=True)
class Task:
    """Train a slice.

    Attributes:
        parcel: the number of its trainer and model.
        follows: they come next, as a parcel.
        given: config, seed, replica and trial of its job, pickled.
    """

    parcel: int
    follows: bool
    work: Slice
    given: bytes
    state: TrainState | None


@dataclass(frozen=True)
class Misread:
    """A worker's answer to what it could not unpickle."""

    reason: str
    detail: str

    def error(self) -> StudyError:
        what = "a worker process cannot load the trainer, the model or a configuration"
        return StudyError(f"{what}: {self.reason}\n{self.detail}".rstrip())


@dataclass(frozen=True)
class Settings:
    """What a process sets as a whole and training depends on; a worker takes over its parent's.

    Attributes:
        start: how data loaders start processes; a spawned process would spawn, which takes seconds an epoch.
    """

    dtype: torch.dtype
    precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    start: str

    @classmethod
    def current(cls) -> "Settings":
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(),
            (cudnn.benchmark, cudnn.deterministic),
            multiprocessing.get_start_method(),
        )

    def apply(self) -> None:
        torch.set_default_dtype(self.dtype)
        if self.precision != torch.get_float32_matmul_precision():
            torch.set_float32_matmul_precision(self.precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        multiprocessing.set_start_method(self.start, force=True)


class Bench:
    """Trains one slice at a time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._inline = runtime, Inline(runtime)
        self._loaded: dict[int, tuple[Trains, Model | None] | Misread] = {}
        self._trial = 0

    @property
    def busy(self) -> bool:
        return self._inline.busy > 0

    def load(self, parcel: int, how: Callable[[], Any]) -> None:
        """Keep the trainer and the model that `how` returns."""
        self._loaded[parcel] = _read(how)

    def begin(self, task: Task) -> Misread | None:
        """Take a slice, or say what cannot be read of it."""
        parcel, given = self._loaded[task.parcel], _read(lambda: loaded(task.given))
        if isinstance(parcel, Misread) or isinstance(given, Misread):
            return parcel if isinstance(parcel, Misread) else given
        trainer, model = parcel
        config, seed, replica, trial = given
        job = Job(model, config, self._runtime, seed, replica, trial)
        self._trial = task.work.trial
        self._inline.submit(task.work, trainer, job, task.state)
        return None

    def epoch(self, tell: Callable[[list[Event]], None]) -> None:
        """Train an epoch, and tell what happened; a state or a report that cannot be told fails the trial."""
        events = self._inline.wait()
        try:
            tell(events)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            self.drop()
            tell([ended(self._trial, error, 0.0)])

    def drop(self) -> None:
        """Leave the slice."""
        self._inline.close()


def _read(how: Callable[[], Any]) -> Any:
    try:
        return how()
    except Unreadable as error:
        cause = error.__cause__ or error
        return Misread(f"{type(cause).__name__}: {cause}", "".join(traceback.format_exception(cause)))
