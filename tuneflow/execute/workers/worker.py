"""The bench of a worker, wherever it is: what it was sent, and the executor that trains it there."""

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Event
from tuneflow.execute.in_process import in_process
from tuneflow.execute.inline import InlineExecutor, ended
from tuneflow.execute.lanes.engine_cache import EngineCache, EngineReport, EngineUpdate, WorkerEngineCache
from tuneflow.execute.workers.pickling import Unreadable, loaded
from tuneflow.history.trial import Slice
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.runtime.threads import flushes
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

P = TypeVar("P")


@dataclass(frozen=True)
class Task:
    """Train a slice.

    Attributes:
        parcel: the number of its trainer and model.
        follows: they come next, as a parcel.
        given: config, seed, replica and trial of its job, pickled.
        alone: by itself, as without lanes.
    """

    parcel: int
    follows: bool
    work: Slice
    given: bytes
    state: TrainState | None
    alone: bool = False


@dataclass(frozen=True)
class Command:
    """What a worker is told that waits: leave these trials, take these tasks, and go on."""

    tasks: list[Task]
    stops: list[int]
    brief: EngineUpdate


@dataclass(frozen=True)
class Reply:
    """What happened in a worker, and what it found out."""

    events: list[Event]
    news: EngineReport

    @property
    def waits(self) -> bool:
        """Whether the worker waits now to be told what is next: it has room for another slice."""
        return not self.events or any(isinstance(event, Ended) for event in self.events)


@dataclass(frozen=True)
class LoadFailure:
    """A worker's answer to what it could not unpickle."""

    reason: str
    detail: str

    def error(self) -> StudyError:
        what = "a worker process cannot load the trainer, the model or a configuration"
        return StudyError(f"{what}: {self.reason}\n{self.detail}".rstrip())


@dataclass(frozen=True)
class ProcessSettings:
    """What a process sets as a whole and training depends on; a worker takes over its parent's.

    Attributes:
        flushes: whether denormal numbers count as 0, outside of a runtime's block.
        start: how data loaders start processes; a spawned process would spawn, which takes seconds an epoch.
    """

    dtype: torch.dtype
    precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    flushes: bool
    start: str

    @classmethod
    def current(cls) -> "ProcessSettings":
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(),
            (cudnn.benchmark, cudnn.deterministic),
            flushes(),
            multiprocessing.get_start_method(),
        )

    def apply(self) -> None:
        torch.set_default_dtype(self.dtype)
        if self.precision != torch.get_float32_matmul_precision():
            torch.set_float32_matmul_precision(self.precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        if self.flushes != flushes():
            torch.set_flush_denormal(self.flushes)
        multiprocessing.set_start_method(self.start, force=True)


class Worker:
    """Trains what it is told to: slices together as its runtime does, those that are to be alone inline."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._together, self._alone = in_process(runtime), InlineExecutor(runtime)
        self._notes = WorkerEngineCache()
        if isinstance(self._together, EngineCache.Kept):
            self._together.notes = self._notes
        self._loaded: dict[int, tuple[TrainerProtocol, Model | None] | LoadFailure] = {}

    def take(self, orders: Command, fetch: Callable[[], Any]) -> LoadFailure | None:
        """Leave and take slices, or say what cannot be read of one.

        Args:
            fetch: returns trainer and model of the next task that they come with.
        """
        self._notes.take(orders.brief)
        for trial in orders.stops:
            self._stop(trial)
        misread = [self._begin(task, fetch) for task in orders.tasks]
        return next((one for one in misread if one is not None), None)

    def train(self, pack: Callable[[Reply], P]) -> tuple[Reply, P]:
        """Train until something happens, an epoch of a slice at least; what happened, and the same packed.

        A state or a report that cannot be packed fails its trial.
        """
        events = (self._alone if self._alone.busy else self._together).wait()
        told = Reply(events, self._notes.news())
        try:
            return told, pack(told)
        except Exception:
            told = replace(told, events=self._packable(events, pack))
            return told, pack(told)

    def _begin(self, task: Task, fetch: Callable[[], Any]) -> LoadFailure | None:
        if task.follows:
            self._loaded[task.parcel] = _read(fetch)
        parcel, given = self._loaded[task.parcel], _read(lambda: loaded(task.given))
        if isinstance(parcel, LoadFailure) or isinstance(given, LoadFailure):
            return parcel if isinstance(parcel, LoadFailure) else given
        trainer, model = parcel
        config, seed, replica, trial = given
        job = Job(model, config, self._runtime, seed, replica, trial)
        executor = self._alone if task.alone else self._together
        executor.submit(task.work, trainer, job, task.state)
        return None

    def _packable(self, events: list[Event], pack: Callable[[Reply], Any]) -> list[Event]:
        """`events` with an end in the place of those of a trial that cannot be packed."""
        kept: list[Event] = []
        for trial in dict.fromkeys(event.trial for event in events):
            of_it = [event for event in events if event.trial == trial]
            try:
                pack(Reply(of_it, EngineReport()))
                kept += of_it
            except Exception as error:
                self._stop(trial)
                kept.append(ended(trial, error, 0.0))
        return kept

    def _stop(self, trial: int) -> None:
        self._alone.stop(trial)
        self._together.stop(trial)


def _read(how: Callable[[], Any]) -> Any:
    try:
        return how()
    except Unreadable as error:
        cause = error.__cause__ or error
        return LoadFailure(f"{type(cause).__name__}: {cause}", "".join(traceback.format_exception(cause)))
