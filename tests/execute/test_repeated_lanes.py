"""Folds and replicas as lanes of their own: the same trials as one by one, but for rounding."""

import math

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.execute.executor import Ended, Reported
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.lanes import structure_group as group
from tuneflow.execute.lanes.engine_cache import EngineTiming
from tuneflow.execute.lanes.executor import LaneExecutor
from tuneflow.execute.lanes.lane_stack import Lanes
from tuneflow.execute.workers.pickling import loaded
from tuneflow.execute.workers.sendable import SPAWN
from tuneflow.history.trial import Slice
from tuneflow.train.repeated import Repeated

DATA = tn.Data(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3)
INLINE, LANES = tn.Runtime("cpu", threads=1), tn.Runtime("cpu", threads=1, lanes=4)
SETTINGS = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16}


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def together(monkeypatch):
    """Everything is worth being fused; the sizes of the stacks that take a step."""
    sizes, step = [], Lanes.step

    def noticed(self, batch, active=None):
        sizes.append(sum(active or [True]))
        return step(self, batch, active)

    monkeypatch.setattr(Lanes, "step", noticed)
    monkeypatch.setattr(group, "TRACING", 0.0)
    monkeypatch.setattr(group, "TRIED", 0)
    monkeypatch.setattr(group, "time_alone", lambda lane: 1.0)
    monkeypatch.setattr(group, "measure", lambda lanes, slots, *_: EngineTiming("stacked", slots, 1.0, 1.0))
    return sizes


def study(runtime, replicas=1, folds=3, high=0.5, **settings):
    parts = {"folds": folds} if folds else {"valid": DATA}
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, high, log=True)})
    return tn.Study(
        model=tn.Model(net), trainer=tn.Trainer(DATA, **parts, **SETTINGS | settings), space=space, replicas=replicas,
        runtime=runtime, minimize="loss", progress=False, seed=1,
    )  # fmt: skip


def assert_alike(ours, theirs):
    for one, other in zip(ours.trials, theirs.trials, strict=True):
        assert (one.config, one.status, one.reason, one.epochs) == (
            other.config,
            other.status,
            other.reason,
            other.epochs,
        )
        for a, b in zip(one.reports, other.reports, strict=True):
            assert a.metrics == pytest.approx(b.metrics, rel=1e-4, nan_ok=True)
            assert a.errors == pytest.approx(b.errors, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"folds": None, "replicas": 3},
        {"replicas": 2, "folds": 2},
        {"patience": 1, "epochs": 12, "optimizer": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.95)},
        {"high": 1e25, "epochs": 3},
        {"folds": [(range(40), range(40, 60)), (range(25, 60), range(25))]},
    ],
    ids=["folds", "replicas", "both", "patience", "diverged", "unequal"],
)
def test_trials_in_lanes_are_those_trained_one_by_one(together, settings):
    both = [study(runtime, **settings) for runtime in (LANES, INLINE)]
    for each in both:
        each.run(trials=4)
    assert_alike(*both)
    assert max(together) > 1
    assert "high" not in settings or any("in fold" in trial.reason for trial in both[0].trials)


def test_as_many_trials_as_lanes_are_under_way():
    executor = LaneExecutor(LANES)
    for number in range(4):
        submit(executor, number)
    assert (executor.busy, executor.free) == (4, 0)
    with pytest.raises(RuntimeError, match="all 4 lanes have a slice each"):
        submit(executor, 4)
    executor.stop(2)
    assert executor.busy == 3
    events = drained(executor)
    assert sorted(number for number, _ in events) == [0, 1, 3]
    executor.close()
    assert executor.busy == 0


def submit(executor, number, state=None, until=2, ours=None):
    job = tn.types.Job(tn.Model(net), {"optimizer": {"lr": 0.1 + number / 100}}, executor_runtime(executor))
    ours = ours or Repeated(tn.Trainer(DATA, folds=3, **SETTINGS | {"epochs": 3}), 1)
    executor.submit(Slice(number, 0 if state is None else state.epoch, until), ours, job, state)


def executor_runtime(executor):
    return LANES if isinstance(executor, LaneExecutor) else INLINE


def drained(executor):
    """Events by trial."""
    events = {}
    while executor.busy:
        for event in executor.wait():
            events.setdefault(event.trial, []).append(event)
    return list(events.items())


def test_a_state_of_lanes_goes_on_alone_and_back(together):
    lanes, alone = LaneExecutor(LANES), InlineExecutor(INLINE)
    submit(alone, 0, until=3)
    ((_, whole),) = drained(alone)
    submit(lanes, 0, until=1)
    ((_, first),) = drained(lanes)
    submit(alone, 0, first[-2].state, until=2)
    ((_, second),) = drained(alone)
    submit(lanes, 0, second[-2].state, until=3)
    ((_, third),) = drained(lanes)
    reports = [event.report for event in [*first, *second, *third] if isinstance(event, Reported)]
    wanted = [event.report for event in whole if isinstance(event, Reported)]
    assert [report.epoch for report in reports] == [1, 2, 3]
    for ours, theirs in zip(reports, wanted, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-4)
    assert [type(event) for event in third] == [Reported, Ended]


def test_a_failure_in_a_fold_fails_its_trial_alone():
    class Fails(tn.Trainer):
        def loss_of(self, module, batch):
            if len(self.train) == 50 and module[0].weight.requires_grad and self.optimizer.keywords["lr"] > 0.105:
                raise RuntimeError("not on this fold")
            return super().loss_of(module, batch)

    ours = Repeated(Fails(DATA, folds=[(range(40), range(40, 60)), (range(50), range(50, 60))], **SETTINGS), 1)
    executor = LaneExecutor(LANES)
    submit(executor, 0, ours=ours)
    submit(executor, 1, ours=ours)
    ends = {number: events[-1] for number, events in drained(executor)}
    assert (ends[0].status, ends[1].status) == ("DONE", "FAILED")
    assert ends[1].reason == "RuntimeError: not on this fold"
    assert ends[1].detail.endswith("in fold 1\n")


def test_a_job_that_is_sent_to_a_worker_keeps_its_fold():
    job = tn.types.Job(None, {"lr": 0.1}, INLINE, seed=1, replica=2, trial=3, fold=4)
    assert loaded(SPAWN.pickled_job(job)) == ({"lr": 0.1}, 1, 2, 3, 4)


def test_folds_of_a_loop_are_trained_by_the_loop():
    @tn.loop(epochs=2)
    def loop(config, run):
        for epoch in run.epochs():
            yield {"loss": config["x"] / epoch}

    ours = tn.Study(
        trainer=loop, replicas=2, space=tn.SearchSpace(x=tn.Float(1, 2)), minimize="loss", runtime=LANES, progress=False
    )
    ours.run(trials=3)
    assert [trial.status for trial in ours.trials] == ["DONE"] * 3
    assert math.isfinite(ours.best.errors["loss"])
