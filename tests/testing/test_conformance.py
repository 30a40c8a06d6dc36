"""Ours pass the shipped checks; deliberately broken plug-ins are rejected by them."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import TRAIN, VALID
from tuneflow.execute.executor import Ended
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.objective import Objective
from tuneflow.store.sqlite import SqliteStore
from tuneflow.testing import check_executor, check_scheduler, check_searcher, check_store, check_trainer


class Climb(tn.Searcher):
    def suggest(self, space, history, rng):
        if np.isfinite(history.values).sum() < 5:
            return space.sample(rng)
        center = space.to_unit(history.best.config)
        return space.from_unit((center + 0.1 * rng.standard_normal(len(center))).clip(0, 1))


def earlier():
    """Some random trials of a space that shares a few names with those of the checks."""
    space = tn.SearchSpace(x=tn.Float(-2, 2), a=tn.Int(0, 20), kind=tn.Choice(["a", "b"]), x7=tn.Float(0, 1))
    history, rng = tn.types.History(space, Objective((("loss", False),))), np.random.default_rng(0)
    for number in range(12):
        config = space.sample(rng)
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": config["x"] ** 2 + config["a"]}))
    return history


SEARCHERS = {
    "auto": tn.Auto,
    "gp": tn.GP,
    "lecun": lambda: tn.LeCun(then=tn.TPE(start=2)),  # alone, as there is no model to measure
    "warm": lambda: tn.Warm(earlier()),
    "warm tpe": lambda: tn.Warm([earlier(), earlier()], then=tn.TPE(start=2)),
    "grid": lambda: tn.Grid(2),
    "shuffled grid": lambda: tn.Grid(2, shuffle=True),
    "random": tn.Random,
    "sobol": tn.Sobol,
    "tpe": tn.TPE,
    "early tpe": lambda: tn.TPE(start=3, candidates=4),
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(4, 2),
    "nsga2": lambda: tn.NSGA2(4),
    "one's own": Climb,
}
# Proposals: fewer of those that hand most of them on to searchers that are here too, more of those that start late.
TRIALS = {"auto": 8, "gp": 11, "warm": 8, "warm tpe": 8, "tpe": 16, "cmaes": 16, "evolution": 16, "nsga2": 16}


@pytest.mark.parametrize("name", SEARCHERS)
def test_searchers_pass(name):
    check_searcher(SEARCHERS[name], trials=TRIALS.get(name, 12))


class HidesState(tn.Searcher):
    def __init__(self):
        self.count = 0

    def suggest(self, space, history, rng):
        self.count += 1
        return space.from_unit(np.full(len(space), (self.count * 0.37 + rng.random()) % 1))


class IgnoresSeed(tn.Searcher):
    def suggest(self, space, history, rng):
        return space.sample(np.random.default_rng(history.number))


class UsesGlobals(tn.Searcher):
    def suggest(self, space, history, rng):
        return space.from_unit(np.clip(rng.random(len(space)) + 0 * np.random.rand(), 0, 1))  # noqa: NPY002


class LeavesSpace(tn.Searcher):
    def suggest(self, space, history, rng):
        return {**space.sample(rng), "extra": 1}


class Writes(tn.Searcher):
    def suggest(self, space, history, rng):
        config = space.sample(rng)
        history.record(tn.Trial(len(history), config))
        return config


class NeedsTheBest(tn.Searcher):
    def suggest(self, space, history, rng):
        if len(history.finished) < 5:
            return space.sample(rng)
        return space.from_unit((space.to_unit(history.best.config) + 0.1 * rng.random(len(space))).clip(0, 1))


class CountsTheRunning(tn.Searcher):
    def __init__(self):
        self._seen = []

    def suggest(self, space, history, rng):
        self._seen += [trial.number for trial in history.running]
        return space.from_unit((rng.random(len(space)) + 0.1 * len(self._seen)) % 1)


class ChangesItsSettings(tn.Searcher):
    def __init__(self):
        self.asked = 0

    def suggest(self, space, history, rng):
        self.asked += 1
        return space.sample(rng)


class SaysItEnds(tn.Searcher):
    ends = True

    def suggest(self, space, history, rng):
        return space.sample(rng)


class GivesUp(tn.Searcher):
    def suggest(self, space, history, rng):
        return None if history.number == 3 and space.size == 6 else space.sample(rng)


class SaysItCounts(tn.Searcher):
    by_number = True

    def suggest(self, space, history, rng):
        best = history.leader
        if best is None:
            return space.sample(rng)
        return space.from_unit((space.to_unit(best.config) + 0.3 + 0 * rng.random(len(space))).clip(0, 1))


BROKEN_SEARCHERS = {
    SaysItEnds: "it never proposed None, and ends is True",
    GivesUp: "it proposed None after 3 trials, and ends is False",
    SaysItCounts: "after other scores, and by_number is True",
    NeedsTheBest: "the first ones failed: it asks for what the study does not have: no finished trial has a score",
    CountsTheRunning: "four at once: a fresh searcher proposed",
    ChangesItsSettings: "its settings were changed from",
    HidesState: "a fresh searcher proposed",
    IgnoresSeed: "the rng is not used",
    UsesGlobals: r"global generator of numpy\.random",
    LeavesSpace: "extra",
    Writes: "the history was changed",
}


@pytest.mark.parametrize("broken", BROKEN_SEARCHERS, ids=lambda c: c.__name__)
def test_broken_searchers_are_rejected(broken):
    with pytest.raises((AssertionError, ValueError), match=BROKEN_SEARCHERS[broken]):
        check_searcher(broken)


SCHEDULERS = {
    "full": tn.Full,
    "halving": tn.Halving,
    "halving by two": lambda: tn.Halving(2, first=2),
    "median": lambda: tn.Median(trials=2),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_pass(name):
    check_scheduler(SCHEDULERS[name])


class Remembers(tn.Scheduler):
    def __init__(self):
        self._asked = 0

    def next(self, space, history, rng):
        self._asked += 1
        if history.paused:
            return tn.schedule.Continue(history.paused[0].number, history.epochs)
        return tn.schedule.Start(1 + self._asked % history.epochs)


class Abandons(tn.Scheduler):
    def next(self, space, history, rng):
        return tn.schedule.Start(1) if history.remaining > 0 else tn.schedule.Wait()


class Overtakes(tn.Scheduler):
    def next(self, space, history, rng):
        return tn.schedule.Continue(0, history.epochs) if len(history) else tn.schedule.Start(history.epochs)


class Neglects(tn.Scheduler):
    """Goes on with what stands at its rung, and forgets what was interrupted on the way there."""

    def next(self, space, history, rng):
        for trial in history.paused:
            if trial.epochs == 4:
                return tn.schedule.Continue(trial.number, history.epochs)
        return tn.schedule.Start(4) if history.remaining > 0 else tn.schedule.Wait()


class Anticipates(tn.Scheduler):
    """Forks from an epoch that the parent has not come to."""

    def next(self, space, history, rng):
        if history.paused:
            return tn.schedule.Continue(history.paused[0].number, history.epochs)
        return tn.schedule.Fork(0, 2, {"x": 0.5}, history.epochs) if len(history) else tn.schedule.Start(1)


class Records(tn.Scheduler):
    def next(self, space, history, rng):
        history.record(tn.Trial(len(history), {"x": 0.5}, "FAILED"))
        return tn.schedule.Start(history.epochs)


class Ranks(tn.Scheduler):
    """Expects that every trial has a report."""

    def next(self, space, history, rng):
        _ = [trial.reports[1] for trial in history.finished]
        return (
            tn.schedule.Continue(history.paused[0].number, history.epochs)
            if history.paused
            else tn.schedule.Start(history.epochs)
        )


BROKEN_SCHEDULERS = {
    Neglects: "interrupted: trials .* never ended",
    Anticipates: "goes on from epoch 2, there are",
    Records: "the history was changed",
    Ranks: "failures: IndexError",
    Remembers: "a fresh scheduler decided",
    Abandons: "never ended|never came to its end",
    Overtakes: "continues a trial that is",
}


@pytest.mark.parametrize("broken", BROKEN_SCHEDULERS, ids=lambda c: c.__name__)
def test_broken_schedulers_are_rejected(broken):
    with pytest.raises(AssertionError, match=BROKEN_SCHEDULERS[broken]):
        check_scheduler(broken)


def net(dropout=0.2):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 10)
    )


def trainer(kind=tn.Trainer, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD} | settings
    return kind(TRAIN[:96], VALID[:64], epochs=3, **settings)


def job(config=None):
    config = {"optimizer": {"lr": 0.05, "momentum": 0.9}} if config is None else config
    return tn.types.Job(tn.Model(net), config, tn.Runtime("cpu"))


OPTIMIZERS = [
    name
    for name in sorted(vars(torch.optim))
    if isinstance(getattr(torch.optim, name), type) and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trainers_pass_with_every_torch_optimizer(name):
    check_trainer(trainer(optimizer=getattr(torch.optim, name)), job({"optimizer": {"lr": 0.01}}))


def test_there_are_more_than_twelve_optimizers():
    assert len(OPTIMIZERS) >= 12


@tn.loop(epochs=3)
def fit(config, run):
    model = run.place(net())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in run.epochs(model=model, optimizer=optimizer):
        loss = nn.functional.cross_entropy(model(TRAIN.inputs[:64] / 16), TRAIN.targets[:64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss}


def test_loops_pass():
    check_trainer(fit, tn.types.Job(None, {}, tn.Runtime("cpu")))


class DropsMomentum(tn.Trainer):
    def advance(self, job, state, until):
        values = {**state.values, "optimizer": {**state.values["optimizer"], "state": {}}}
        return super().advance(job, tn.types.TrainState(state.epoch, values), until)


class SharesTensors(tn.Trainer):
    def advance(self, job, state, until):
        for reached, report in super().advance(job, state, until):
            for name, tensor in state.values["module"].items():
                tensor.copy_(reached.values["module"][name])
            yield reached, report
        return ""


class FixedSeed(tn.Trainer):
    def init(self, job):
        return super().init(tn.types.Job(job.model, job.config, job.runtime, 0))

    def advance(self, job, state, until):
        return super().advance(tn.types.Job(job.model, job.config, job.runtime, 0), state, until)


class DrawsGlobally(tn.Trainer):
    def init(self, job):
        torch.rand(1)
        return super().init(job)


class ReportsTwice(tn.Trainer):
    def advance(self, job, state, until):
        for reached in super().advance(job, state, until):
            yield reached
            yield reached
        return ""


class GoesTooFar(tn.Trainer):
    def advance(self, job, state, until):
        return super().advance(job, state, until + 1)


class StopsShort(tn.Trainer):
    def advance(self, job, state, until):
        return super().advance(job, state, min(until, 2))


BROKEN_TRAINERS = {
    ReportsTwice: "epoch 2: got the state of epoch 1",
    GoesTooFar: "beyond `until`",
    StopsShort: "it trained 2 of 3 epochs",
    DropsMomentum: "in pieces it",
    SharesTensors: "changed the state that it started from",
    FixedSeed: "the job's seed is not used",
    DrawsGlobally: "global generator of torch",
}


@pytest.mark.parametrize("broken", BROKEN_TRAINERS, ids=lambda c: c.__name__)
def test_broken_trainers_are_rejected(broken):
    with pytest.raises(AssertionError, match=BROKEN_TRAINERS[broken]):
        check_trainer(trainer(broken), job())


def test_the_inline_executor_passes():
    check_executor(lambda: InlineExecutor(tn.Runtime("cpu")))


class SwallowsFailures(InlineExecutor):
    def wait(self):
        return [Ended(e.trial, "DONE") if isinstance(e, Ended) else e for e in super().wait()]


class ForgetsState(InlineExecutor):
    def submit(self, work, trainer, job, state):
        super().submit(work, trainer, job, None)


class NeverStops(InlineExecutor):
    def stop(self, trial):
        pass


class Spins(InlineExecutor):
    def wait(self):
        return []


class LosesClasses(InlineExecutor):
    def wait(self):
        return [dataclasses.replace(e, kinds=()) if isinstance(e, Ended) else e for e in super().wait()]


class EndsTwice(InlineExecutor):
    def wait(self):
        events = super().wait()
        return [*events, *(e for e in events if isinstance(e, Ended))]


BROKEN_EXECUTORS = {
    SwallowsFailures: "ended as",
    ForgetsState: "returned epoch 1 of trial 1, whose next one is 3",
    NeverStops: "a stopped slice still runs",
    Spins: "Spins.wait.. returned no event 1000 times",
    LosesClasses: "does not name the class of its exception",
    EndsTwice: "returned the end as DONE of trial 0, which is not under way",
}


@pytest.mark.parametrize("broken", BROKEN_EXECUTORS, ids=lambda c: c.__name__)
def test_broken_executors_are_rejected(broken):
    with pytest.raises(AssertionError, match=BROKEN_EXECUTORS[broken]):
        check_executor(lambda: broken(tn.Runtime("cpu")))


def test_the_sqlite_store_passes(tmp_path):
    check_store(SqliteStore, tmp_path / "study.sqlite")


class LosesTheLastRow(SqliteStore):
    def commit(self):
        self._pending = self._pending[:-1]
        return super().commit()


class GivesNumbersTwice(SqliteStore):
    def claim(self, most):
        number = super().claim(most)
        return 0 if number == 1 else number


class TakesAnything(SqliteStore):
    def _later(self, trial, own, statement, row):
        if "UPDATE trial SET owner" in statement:
            own, statement, row = False, statement.replace("AND owner = ?", "AND ? = ?"), (*row, row[-1])
        super()._later(trial, own, statement, row)


class RoundsFloats(SqliteStore):
    def report(self, number, report):
        super().report(number, report)

    def put(self, trial):
        config = json.loads(json.dumps(trial.config).replace("0.1", "0.10001"))
        super().put(
            tn.Trial(
                trial.number,
                config,
                trial.status,
                trial.reason,
                trial.metrics,
                trial.errors,
                trial.epochs,
                trial.seconds,
                trial.reports,
                trial.detail,
                trial.parent,
            )
        )


class ForgetsWhere(SqliteStore):
    def report(self, number, report):
        super().report(number, replace(report, worker=0))


class ForgetsWhen(SqliteStore):
    def put(self, trial):
        super().put(replace(trial, reports=[replace(report, at=0.0) for report in trial.reports]))


class KeepsTheFirstNote(SqliteStore):
    def note(self, key, value):
        self.remember(key, value)


class LacksAVerb(SqliteStore):
    @property
    def recall_all(self):
        raise AttributeError


class ListsEverything(SqliteStore):
    def recall_all(self, prefix):
        return super().recall_all("")


class ExchangesAnything(SqliteStore):
    def exchange(self, key, before, value):
        return super().exchange(key, self.recall(key), value)


class LetsEverybodyHold(SqliteStore):
    def hold(self):
        return True


class LosesWhatIsGivenBack(SqliteStore):
    def release(self, number):
        pass


class EntersTwice(SqliteStore):
    def enter(self, trial, once):
        return super().enter(trial, False)


class CountsForks(SqliteStore):
    def enter(self, trial, once):
        return trial.config != {"x": 0.2, "y": None} and super().enter(trial, once)


BROKEN_STORES = {
    LosesWhatIsGivenBack: "the first was given back",
    EntersTwice: "has to enter once",
    CountsForks: "that only a fork has",
    LosesTheLastRow: "came back|there are|lost|taken",
    GivesNumbersTwice: "claims gave",
    TakesAnything: "another owner's trial was taken",
    RoundsFloats: "came back",
    ForgetsWhere: "come back with their `at` and `worker`",
    ForgetsWhen: "come back with their `at` and `worker`",
    LacksAVerb: "lacks recall_all",
    KeepsTheFirstNote: "noted last has to count",
    ListsEverything: "begin with c",
    ExchangesAnything: "first exchange",
    LetsEverybodyHold: "one may hold",
}


@pytest.mark.parametrize("broken", BROKEN_STORES, ids=lambda c: c.__name__)
def test_broken_stores_are_rejected(broken, tmp_path):
    with pytest.raises(AssertionError, match=BROKEN_STORES[broken]):
        check_store(broken, tmp_path / "study.sqlite")
