"""The replay of a study: a share of all that it trained is drawn, trained again and compared."""

import copy
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from tuneflow.errors import StudyError, listed
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import stream
from tuneflow.store.checkpoints import States
from tuneflow.store.memory import MemoryStore
from tuneflow.store.store import Store
from tuneflow.study.confirm import Looks
from tuneflow.study.final_model import FinalModels
from tuneflow.study.growth import FACTS
from tuneflow.study.kept_tests import kept_tests
from tuneflow.study.replay.agreement import steps_of
from tuneflow.study.replay.replay_slices import slices_of
from tuneflow.study.replay.replayed import Replayed, ReplayedSlice
from tuneflow.study.replay.retraining import Retraining
from tuneflow.study.replay.slice_check import SliceCheck
from tuneflow.study.replay.training_checks import FinalCheck, LookCheck, finals_of, looks_of
from tuneflow.study.taken_measures import MEASURE, measures_of
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True)
class Replay:
    """The trainings of a study, to be made again; nothing that is stored changes.

    Args:
        trainer: the study's.
        history: the study's, up to date.
        states: those that are kept.
        store: the study's; it is only read.
        job: returns a trial's job.
        runtime: the study's.
        looks: trainings under fresh seeds.
        finals: models on all rows; None without folds.
    """

    trainer: TrainerProtocol
    history: History
    states: States
    store: Store
    job: Callable[[Trial], Job]
    runtime: Runtime
    looks: Looks
    finals: FinalModels | None

    def of(self, share: float, seed: int | None) -> Replayed:
        """Train a share of all slices again, at least one of them, and compare.

        Args:
            share: of the slices, up to 1.
            seed: of the choice among them; None for a fresh one.
        """
        seed = secrets.randbits(32) if seed is None else seed
        tasks = list(self._tasks())
        chosen = drawn(len(tasks), share, seed)
        return Replayed(len(tasks), seed, tuple(tasks[index]() for index in chosen), tuple(self._remarks()))

    def _tasks(self) -> Iterator[Callable[[], ReplayedSlice]]:
        runtime = self._runtime()
        check = SliceCheck(self._retraining(runtime), self.history, self.states, self._measures(), self._steps())
        yield from (partial(check, work) for work in slices_of(self.history, self.states.epochs))
        of_look = LookCheck(replace(self.looks, measures=self._measures()), self.store, runtime, self._steps())
        yield from (partial(of_look, look) for look in looks_of(self.store))
        if self.finals is not None:
            yield from (partial(FinalCheck(self.finals, runtime), which) for which in finals_of(self.finals))

    def _retraining(self, runtime: Runtime) -> Retraining:
        return Retraining(self.trainer, self.history, self.states, lambda t: replace(self.job(t), runtime=runtime))

    def _runtime(self) -> Runtime:
        """Return the study's runtime for this process, with the number of threads that the study was made with."""
        runtime = copy.copy(self.runtime)
        runtime.threads = self._before.get("runtime", {}).get("threads", runtime.threads)
        runtime.on_epoch = None
        return runtime

    @property
    def _before(self) -> dict[str, Any]:
        return self.store.recall(FACTS) or {}

    def _steps(self) -> dict[str, float]:
        single: Any = self.trainer.single
        if single.inspectable:
            return dict.fromkeys(single.metrics, single.folds / len(single.valid))
        return steps_of(report for trial in self.history.trials for report in trial.reports)

    def _measures(self) -> Any:
        """Return what takes the measures of structures again: but those with an error, such as a time, are as kept."""
        memory = MemoryStore()
        for key, value in self.store.recall_all(MEASURE).items():
            if value.get("error", math.nan) > 0:
                memory.note(key, value)
        return measures_of(self.trainer.single, memory)

    def _remarks(self) -> Iterator[str]:
        tested = [str(test.trial) for test in kept_tests(self.store)]
        if tested:
            what = f"the test of trial {tested[0]}" if len(tested) == 1 else f"the tests of trials {listed(tested)}"
            yield f"not replayed: {what}, whose rows are not part of the study; study.test(data) tests again"
        now = {"torch": str(torch.__version__), "runtime": self.runtime.describe()}
        others = [*_others(self._before, now)]
        if others:
            yield f"trained with other settings, so that rounding may differ: {listed(others)}"


def check_share(share: Any) -> None:
    """Raise ValueError unless `share` is a number above 0 and up to 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"replay: share needs to be a number above 0 and up to 1, such as 0.05, got {share!r}.")


def drawn(count: int, share: float, seed: int) -> list[int]:
    """Return the numbers of `share` of so many slices, at least one, drawn evenly and in order.

    One that differs is among them with a probability of at least `share`.

    Raises:
        StudyError: there is none.
    """
    if not count:
        raise StudyError("replay: this study has trained nothing yet.")
    number = min(count, max(1, math.ceil(share * count - 1e-9)))
    return sorted(stream(seed, "replay").choice(count, number, replace=False).tolist())


def _others(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield the settings that digits depend on and that were others, but for threads, which are set as they were."""
    if before.get("torch") != now["torch"]:
        yield f"torch was {before.get('torch')}, now {now['torch']}"
    for name, value in before.get("runtime", {}).items():
        here = "inline" if name == "executor" else now["runtime"].get(name)
        if name != "threads" and value != here:
            yield f"{name} was {value}, now {here}"
