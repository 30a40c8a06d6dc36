"""The check of an executor: every slice is trained, reported in order and ended."""

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import override

from tuneflow.errors import Diverged, StudyError
from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.execute.watched import WatchedExecutor
from tuneflow.history.trial import Report, Slice
from tuneflow.nested import copied
from tuneflow.runtime.runtime import Runtime
from tuneflow.testing.common import require
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


class Counting(TrainerProtocol):
    """A trainer for checking executors: its state counts epochs; `config` says what goes wrong at which."""

    epochs = 5

    @override
    def init(self, job: Job) -> TrainState:
        return TrainState(0, {"count": torch.zeros(())})

    def advance(self, job: Job, state: TrainState, until: int) -> Any:
        values = copied(state.values)
        for epoch in range(state.epoch + 1, until + 1):
            if epoch == job.config.get("fail"):
                raise ConnectionError("made up")
            if epoch == job.config.get("exit"):
                raise SystemExit(3)
            if epoch == job.config.get("diverge"):
                raise Diverged(epoch, 1, None)
            if epoch == job.config.get("stop"):
                return "had enough"
            values["count"] += 1
            yield TrainState(epoch, copied(values)), Report(epoch, {"loss": 1.0 / epoch})
        return ""


def check_executor(make: Callable[[], Executor], runtime: Runtime | None = None) -> None:
    """Check that an executor trains every slice, reports every epoch in order, and survives slices that fail or exit.

    `wait` has to block until there is an event, and a failure has to name the classes of its exception, by which it may
    be tried again.

    Args:
        make: returns a new executor.
        runtime: of the jobs; one on the CPU by default.

    Raises:
        AssertionError: a rule is broken; the message names it.
    """
    runtime, executor, trainer = runtime or Runtime("cpu"), WatchedExecutor(make()), Counting()
    cases: list[tuple[dict[str, int], int, int, list[int], str]] = [
        ({}, 0, 5, [1, 2, 3, 4, 5], "DONE"),
        ({}, 2, 4, [3, 4], "DONE"),
        ({"fail": 3}, 0, 5, [1, 2], "FAILED"),
        ({"exit": 1}, 0, 5, [], "FAILED"),
        ({"diverge": 1}, 0, 5, [], "DIVERGED"),
        ({"stop": 3}, 0, 5, [1, 2], "STOPPED"),
    ]
    seen: dict[int, list[Any]] = {number: [] for number in range(len(cases))}
    waiting = list(enumerate(cases))
    try:
        require(executor.free > 0 and executor.busy == 0, "executor", "a new one has to be free and not busy")
        while waiting or executor.busy:
            while waiting and executor.free:
                number, (config, start, until, _, _) = waiting.pop(0)
                state = TrainState(start, {"count": torch.tensor(float(start))}) if start else None
                executor.submit(Slice(number, start, until), trainer, Job(None, config, runtime), state)
            for event in _events(executor):
                seen[event.trial].append(event)
        for number, (_, _, _, epochs, status) in enumerate(cases):
            *reported, last = seen[number]
            require([e.report.epoch for e in reported] == epochs, "executor", f"epochs of {cases[number]}: {reported}")
            require(isinstance(last, Ended) and last.status == status, "executor", f"{cases[number]} ended as {last}")
            if "fail" in cases[number][0]:
                named = isinstance(last, Ended) and "builtins.ConnectionError" in last.kinds
                require(named, "executor", f"{last} does not name the class of its exception")
            counts = [float(e.state.values["count"]) for e in reported if isinstance(e, Reported)]
            require(counts == [float(e) for e in epochs], "executor", f"states of {cases[number]} hold {counts}")
        executor.submit(Slice(9, 0, 5), trainer, Job(None, {}, runtime), None)
        executor.wait()
        executor.stop(9)
        require(executor.busy == 0, "executor", "a stopped slice still runs")
    finally:
        executor.close()


def _events(executor: Executor) -> list[Event]:
    try:
        return executor.wait()
    except StudyError as error:
        raise AssertionError(f"executor: {error}") from error
