"""The bench of a worker, wherever it is: what it was sent, and the executor that trains it there."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from tuneflow.execute.executor import Event
from tuneflow.execute.in_process import in_process
from tuneflow.execute.inline import InlineExecutor, ended
from tuneflow.execute.lanes.engine_cache import EngineCache, WorkerEngineCache
from tuneflow.execute.workers.messages import Command, EngineReport, LoadFailure, Reply, Task
from tuneflow.execute.workers.pickling import Unreadable, loaded
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol

P = TypeVar("P")


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
