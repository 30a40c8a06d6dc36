"""Lanes in every worker: the trials and scores of inline, whoever is killed, and by whom."""

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from dataclasses import asdict
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.worker_training import ONE, LastingProcesses, finish, fit
from tuneflow.execute.choose import executor_for
from tuneflow.execute.executor import Ended, Reported
from tuneflow.execute.lanes import structure_group as group
from tuneflow.execute.lanes.engine_cache import EngineCache, EngineTiming, WorkerEngineCache
from tuneflow.execute.workers import pickling as wire
from tuneflow.execute.workers.assignment import Assignment
from tuneflow.execute.workers.messages import EngineUpdate
from tuneflow.execute.workers.worker import Worker
from tuneflow.execute.workers.worker_proxy import WorkerProxy, spread
from tuneflow.history.trial import Slice
from tuneflow.store.memory import MemoryStore
from tuneflow.store.sqlite import SqliteStore
from tuneflow.testing import check_executor

LANES = tn.Runtime("cpu", threads=1, lanes=4)
FORCED = "TUNEFLOW_TESTS_STACK"  # in the environment of workers: everything is worth being fused

if FORCED in os.environ:
    group.TRACING = group.TRIED = 0
    group.time_alone = lambda lane: 1.0
    group.measure = lambda lanes, slots, programs, alone: EngineTiming("stacked", slots, alone, alone)


class Pool(LastingProcesses):
    def close(self):
        self._waiting.clear()
        super().close()

    def of(self, trial):
        """The process that trains a trial."""
        return next(child.process.pid for child in self._workers if trial in child.training)


@pytest.fixture(scope="module")
def pool():
    """Two workers of four lanes each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FORCED, "1")
        pool = Pool(LANES, 2)
        yield pool
        pool.end()
    assert multiprocessing.active_children() == []


@pytest.fixture
def shared(pool):
    assert pool.busy == 0
    return tn.Runtime("cpu", threads=1, workers=2, lanes=4, executor=lambda runtime: pool)


# What the workers train: found there by name.


def net(dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10))


def kill(images, kills):
    """No augmentation; it ends the worker that comes to it with `kills`."""
    if kills and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return images


def trainer(epochs=3, **settings):
    data, valid, _ = tn.data.digits()
    given = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, **settings}
    return tn.Trainer(data[:96], valid[:64], epochs=epochs, **given)


SPACE = {
    "model": {"dropout": tn.Float(0.0, 0.5)},
    "optimizer": {"lr": tn.Float(1e-2, 0.5, log=True), "momentum": 0.5},
}


def study(runtime, of=None, trials=12, space=SPACE, **settings):
    made = tn.Study(
        model=tn.Model(net),
        trainer=of or trainer(),
        space=tn.SearchSpace(**space),
        minimize="loss",
        runtime=runtime,
        seed=5,
        progress=False,
        **settings,
    )
    made.run(trials=trials)
    return made


def losses(trial):
    return [report.metrics["loss"] for report in trial.reports]


def assert_alike(mine, theirs):
    assert [(t.number, t.config, t.status) for t in mine] == [(t.number, t.config, t.status) for t in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert losses(one) == pytest.approx(losses(other), rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def inline():
    return study(ONE)


# The same trials as inline.


def test_the_executor_keeps_its_promises(pool):
    check_executor(lambda: pool, ONE)


def test_trials_and_scores_are_inlines_and_workers_say_how_they_train(shared, inline, caplog):
    caplog.set_level(logging.INFO, "tuneflow")
    made = study(shared)
    assert_alike(made.trials, inline.trials)
    timings = shared.executor(shared).engines.update_for(0, 1).timings
    assert {timing["kind"] for timing in timings.values()} == {"stacked"}
    assert caplog.messages.count("lanes: training 4 trials together, 4.0x faster") == 1
    best, theirs = made.best.model().state_dict(), inline.best.model().state_dict()
    for name in best:
        torch.testing.assert_close(best[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_fused_is_trained_to_the_last_bit_and_said_once(shared, caplog):
    made, theirs = (
        tn.Study(space=tn.SearchSpace(lr=tn.Float(0.01, 0.2)), trainer=fit, runtime=runtime, progress=False)
        for runtime in (shared, ONE)
    )
    for each in (made, theirs):
        each.run(trials=9)
    assert [losses(t) for t in made.trials] == [losses(t) for t in theirs.trials]
    assert caplog.messages == ["lanes: training one by one: Loop trains by itself"]


def test_with_a_lag_the_decisions_of_halving_are_inlines(shared):
    made, theirs = (study(runtime, trainer(6), scheduler=tn.Halving(2), lag=8) for runtime in (shared, ONE))
    assert "STOPPED" in {trial.status for trial in made.trials}
    assert_alike(made.trials, theirs.trials)


def test_under_halving_a_trial_is_inlines_as_far_as_it_goes(shared):
    made = study(shared, trainer(6), scheduler=tn.Halving(2), trials=16)
    whole = study(ONE, trainer(6), trials=16)
    assert "STOPPED" in {trial.status for trial in made.trials}
    for mine, theirs in zip(made.trials, whole.trials, strict=True):
        assert mine.epochs > 0
        assert losses(mine) == pytest.approx(losses(theirs)[: mine.epochs], rel=1e-5, abs=1e-5)


# Stops.


def train(executor, number, until=3, rate=0.1):
    job = tn.types.Job(tn.Model(net), {"optimizer": {"lr": rate}}, ONE)
    executor.submit(Slice(number, 0, until), DIGITS, job, None)


DIGITS = trainer()


def test_a_stopped_slice_is_heard_of_no_more_and_its_neighbors_lose_nothing(pool):
    for number in range(8):
        train(pool, number, until=40)
    seen = [event for _ in range(2) for event in pool.wait()]
    for number in (0, 1, 5):
        pool.stop(number)
    assert (pool.busy, pool.free) == (5, 3)
    for number in (5, 8, 9):
        train(pool, number, until=2)
    events = finish(pool)
    assert {event.trial for event in events} == {2, 3, 4, 5, 6, 7, 8, 9}
    for number in (5, 8, 9):
        of_it = [event for event in events if event.trial == number]
        assert [event.report.epoch for event in of_it[:-1]] == [1, 2]
    for number in (2, 3, 4, 6, 7):
        of_it = [event for event in (*seen, *events) if event.trial == number]
        assert [event.report.epoch for event in of_it[:-1]] == list(range(1, 41))
        assert of_it[-1] == Ended(number, "DONE")


def test_more_slices_than_all_lanes_are_refused(pool):
    for number in range(8):
        train(pool, number, until=1)
    with pytest.raises(RuntimeError, match="all 2 workers have 4 slices each"):
        train(pool, 8)
    assert len(finish(pool)) == 16


# Kills.


def test_slices_of_a_killed_worker_go_on_from_their_last_reports(shared, inline, caplog):
    killed = []

    def kill(study, trial):
        if trial.number == 2 and trial.epochs == 1 and not killed:
            killed.append(shared.executor(shared).of(2))
            os.kill(killed[0], signal.SIGKILL)

    made = study(shared, callbacks=[kill])
    assert killed
    assert "worker process was killed by SIGKILL" in caplog.text
    assert_alike(made.trials, inline.trials)
    for trial in made.trials:
        assert [report.epoch for report in trial.reports] == [1, 2, 3]


class Numbered(tn.Searcher):
    """Rates by number, and one trial that kills."""

    def suggest(self, space, history, rng):
        given = {"dropout": 0.1}, {"lr": 0.01 * (1 + history.number), "momentum": 0.5}
        return {"model": given[0], "optimizer": given[1], "augment": {"kills": history.number == 2}}


def test_a_trial_that_kills_its_worker_fails_and_no_innocent_neighbor(shared):
    space = {**SPACE, "augment": {"kills": tn.Choice([False, True])}}
    made, theirs = (study(r, trainer(augment=kill), 9, space, searcher=Numbered()) for r in (shared, ONE))
    guilty = made.trials[2]
    assert (guilty.status, guilty.epochs) == ("FAILED", 0)
    assert guilty.reason.startswith("two worker processes died in epoch 1; the last was killed by SIGKILL")
    others = [[t for t in each.trials if t.number != 2] for each in (made, theirs)]
    assert {trial.status for trial in others[0]} == {"DONE"}
    assert_alike(*others)


# Ray.


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
@pytest.mark.xdist_group("ray")  # files that start a cluster run one after the other: it takes the whole machine
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_actors_have_lanes(inline, monkeypatch, caplog):
    monkeypatch.setenv(FORCED, "1")
    caplog.set_level(logging.INFO, "tuneflow")
    made = study(tn.RayRuntime(workers=1, lanes=4))
    assert_alike(made.trials, inline.trials)
    assert "lanes: training 4 trials together, 4.0x faster" in caplog.messages


# Who gets what.


def slices(*numbers, alone=False):
    return [Assignment(0, Slice(number, 0, 5), b"", None, alone=alone) for number in numbers]


def hands(count, slots=4):
    made = [WorkerProxy(slots) for _ in range(count)]
    for hand in made:
        hand.idle = True
    return made


def held(hands):
    return [sorted(hand.work) for hand in hands]


def test_slices_are_spread_evenly():
    workers, waiting = hands(2), deque(slices(0, 1, 2, 3, 4))
    spread(waiting, workers, 4)
    assert held(workers) == [[0, 2, 4], [1, 3]]
    waiting.extend(slices(5, 6, 7, 8, 9))
    spread(waiting, workers, 4)
    assert held(workers) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert [work.trial for work in waiting] == [8, 9]


def test_a_suspect_comes_first_and_is_alone():
    workers, waiting = hands(3), deque(slices(0))
    spread(waiting, workers, 4)
    waiting.extend([*slices(1, 2), *slices(3, 4, 5, alone=True)])
    spread(waiting, workers, 4)
    assert held(workers) == [[0, 1, 2], [3], [4]]
    assert [work.trial for work in waiting] == [5]
    assert waiting[0].piece == Slice(5, 0, 1)


def test_the_second_death_in_an_epoch_names_the_guilty_one():
    (hand,) = hands(1)
    hand.work = {work.trial: work for work in slices(0, 1, 2)}
    hand.training = {0, 1}
    ended, left = hand.lost("died", 1.0)
    assert ended == []
    assert [(work.trial, work.alone, work.deaths) for work in left] == [(0, True, 1), (1, True, 1), (2, False, 0)]
    innocent, guilty, _ = left
    innocent.advance(tn.types.TrainState(1, {}))
    assert (innocent.alone, innocent.deaths, innocent.piece) == (False, 0, Slice(0, 1, 5))
    hand.work, hand.training = {1: guilty}, {1}
    ended, left = hand.lost("died", 1.0)
    assert [(end.trial, end.status) for end in ended] == [(1, "FAILED")]
    assert left == []


# What is told.


class Batch:
    """An executor that has one batch of events to report."""

    def __init__(self, events):
        self.events, self.stopped = events, []

    def wait(self):
        return self.events

    def stop(self, trial):
        self.stopped.append(trial)


def test_a_report_that_cannot_be_told_fails_its_trial_alone(monkeypatch):
    values = [{"w": torch.ones(2)}, {"w": threading.Lock()}, {"w": torch.zeros(2)}]
    report = tn.types.Report(1, {"loss": 1.0})
    events = [Reported(number, report, tn.types.TrainState(1, each)) for number, each in enumerate(values)]
    batch = Batch([*events, Ended(2, "DONE")])
    monkeypatch.setattr("tuneflow.execute.workers.worker.in_process", lambda runtime: batch)
    told, packed = Worker(LANES).train(wire.pack)
    assert [(type(event), event.trial) for event in told.events] == [
        (Reported, 0), (Ended, 1), (Reported, 2), (Ended, 2)
    ]  # fmt: skip
    assert "lock" in told.events[1].reason
    assert (batch.stopped, told.waits) == ([1], True)
    assert len(wire.loaded(packed.body).events) == 4


@pytest.mark.parametrize("make", [lambda path: None, lambda path: MemoryStore(), lambda path: SqliteStore(path)])
def test_what_one_worker_measured_the_others_know_and_so_does_the_next_run(make, tmp_path):
    store = make(tmp_path / "study.sqlite")
    notes, first, second = EngineCache(store, lambda: 6.0), WorkerEngineCache(), WorkerEngineCache()
    first.apply(notes.update_for(0, 2))
    assert first.to_come() == 3.0
    timings = [EngineTiming("stacked", 4, 1.0, 2.0), EngineTiming("single", 8, 1.0, 3.0)]
    for timing in timings:
        assert first.remember("net", timing) == timing
    first.announce("lanes: so")
    first.announce("lanes: so")
    news = first.report()
    assert news.lines == ["lanes: so"]
    assert not first.report()
    notes.merge(news)
    second.apply(notes.update_for(0, 2))
    assert [second.recall("net", slots) for slots in (4, 8, 16)] == [*timings, None]
    assert second.remember("net", EngineTiming("alone", 4, 1.0)) == timings[0]
    assert not second.report()
    assert len(notes.update_for(1, 2).timings) == 1
    if store is not None:
        again = EngineCache(store)
        assert again.update_for(0, 1).timings == notes.update_for(0, 1).timings
        assert again.remember("net", EngineTiming("alone", 4, 1.0)) == timings[0]


def test_of_two_workers_that_measure_the_first_ones_pace_stays():
    notes, first, second = EngineCache(), WorkerEngineCache(), WorkerEngineCache()
    one, other = EngineTiming("stacked", 4, 1.0, 2.0), EngineTiming("single", 4, 1.0, 2.5)
    first.remember("net", one)
    second.remember("net", other)
    notes.merge(first.report())
    notes.merge(second.report())
    second.apply(notes.update_for(0, 2))
    assert second.recall("net", 4) == one
    assert EngineUpdate(notes.update_for(0, 2).timings) == EngineUpdate({"net:4": asdict(one)})


# The runtime.


def test_a_runtime_hands_its_lanes_to_its_workers():
    runtime = tn.Runtime("cpu", threads=1, workers=2, lanes=16)
    assert runtime.of_a_worker()["lanes"] == 16
    assert repr(runtime) == 'Runtime("cpu", threads=1, workers=2, lanes=16)'
    assert runtime.describe() == LANES.describe()
    executor = executor_for(runtime)
    assert executor.free == 32
    with pytest.raises(ValueError, match="leaves 24 of 32 workers or lanes idle"):
        study(runtime, lag=8)


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
def test_a_ray_runtime_has_lanes():
    runtime = tn.RayRuntime(lanes="auto")
    assert runtime.of_a_worker()["lanes"] == "auto"
    assert repr(runtime) == "RayRuntime(device=\"cpu\", cpus=1, gpus=0, threads=1, lanes='auto')"
    assert runtime.describe()["executor"] == "fused"
    with pytest.raises(ValueError, match="RayRuntime: lanes needs to be a whole number"):
        tn.RayRuntime(lanes=0)
