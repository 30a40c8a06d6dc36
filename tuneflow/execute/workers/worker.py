"""The worker inside a process or an actor: it loads what it was sent and trains it with executors of its own."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from tuneflow.errors import in_one_line
from tuneflow.execute.executor import Ended, Event
from tuneflow.execute.in_process import in_process
from tuneflow.execute.inline import InlineExecutor, ended
from tuneflow.execute.lanes.engine_cache import EngineCache, WorkerEngineCache
from tuneflow.execute.workers.messages import Command, EngineReport, LoadFailure, Reply, Task
from tuneflow.execute.workers.pickling import Unreadable, loaded
from tuneflow.model import Model
from tuneflow.runtime.devices import DeviceLost, check_responds
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol

P = TypeVar("P")


class Worker:
    """Carries out commands: trains slices as its runtime does, or one alone where its task asks for that."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._together, self._alone = in_process(runtime), InlineExecutor(runtime)
        self._engines = WorkerEngineCache()
        if isinstance(self._together, EngineCache.Holder):
            self._together.engines = self._engines
        self._loaded: dict[int, tuple[TrainerProtocol, Model | None] | LoadFailure] = {}

    def take(self, command: Command, fetch: Callable[[], Any]) -> LoadFailure | None:
        """Drop and take slices; return the first failure to load one, if any.

        Args:
            command: what to drop and to take.
            fetch: returns trainer and model of the next task to which they are attached.

        Raises:
            DeviceLost: the device of this process failed when something was loaded on it.
        """
        self._engines.apply(command.engines)
        for trial in command.stops:
            self._stop(trial)
        failures = [self._begin(task, fetch) for task in command.tasks]
        for failure in failures:
            if failure is not None:
                self._check_device(failure.reason, failure.detail)
                return failure
        return None

    def train(self, pack: Callable[[Reply], P]) -> tuple[Reply, P]:
        """Train until there are events, an epoch of a slice at least; return the reply and its packed form.

        A state or a report that cannot be packed fails its trial.

        Raises:
            DeviceLost: the device of this process failed under them; nothing more can be trained here.
        """
        events = (self._alone if self._alone.busy else self._together).wait()
        for event in events:
            if isinstance(event, Ended) and event.status == "FAILED":
                self._check_device(event.reason, event.detail)
        reply = Reply(events, self._engines.report())
        try:
            return reply, pack(reply)
        except Exception as error:
            self._check_device(in_one_line(error))
            reply = replace(reply, events=self._packable(events, pack))
            return reply, pack(reply)

    def _check_device(self, reason: str, detail: str = "") -> None:
        """Raise DeviceLost for this reason if the device no longer responds after it."""
        try:
            check_responds(self._runtime.device)
        except DeviceLost:
            raise DeviceLost(reason.split("\n")[0], detail) from None

    def _begin(self, task: Task, fetch: Callable[[], Any]) -> LoadFailure | None:
        if task.attached:
            self._loaded[task.shared] = _load(fetch)
        shared, arguments = self._loaded[task.shared], _load(lambda: loaded(task.job))
        if isinstance(shared, LoadFailure) or isinstance(arguments, LoadFailure):
            return shared if isinstance(shared, LoadFailure) else arguments
        trainer, model = shared
        config, *numbers = arguments
        job = Job(model, config, self._runtime, *numbers)
        executor = self._alone if task.alone else self._together
        executor.submit(task.work, trainer, job, task.state)
        return None

    def _packable(self, events: list[Event], pack: Callable[[Reply], Any]) -> list[Event]:
        """`events`, those of a trial that cannot be packed replaced by a failure."""
        packable: list[Event] = []
        for trial in dict.fromkeys(event.trial for event in events):
            of_trial = [event for event in events if event.trial == trial]
            try:
                pack(Reply(of_trial, EngineReport()))
                packable += of_trial
            except Exception as error:
                self._stop(trial)
                packable.append(ended(trial, error, 0.0))
        return packable

    def _stop(self, trial: int) -> None:
        self._alone.stop(trial)
        self._together.stop(trial)


def _load(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Unreadable as error:
        cause = error.__cause__ or error
        return LoadFailure(in_one_line(cause), "".join(traceback.format_exception(cause)))
