"""One study, trained in every way there is: one by one, in processes, on Ray, as lanes; and in order, by a lag."""

import math

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.worker_training import LastingProcesses
from tuneflow.execute.lanes import structure_group as group
from tuneflow.execute.lanes.engine_cache import EngineTiming

pytestmark = [
    pytest.mark.xdist_group("ray"),  # files that start a cluster run one after the other: it takes the whole machine
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves files to the collector
]

WAYS = {
    "inline": lambda: tn.Runtime("cpu", threads=1),
    "lanes": lambda: tn.Runtime("cpu", threads=1, lanes=4),
}


def net(dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def processes():
    """A runtime whose two worker processes several studies share, as they take seconds to start."""
    pool = LastingProcesses(WAYS["inline"](), 2)
    yield tn.Runtime("cpu", threads=1, workers=2, executor=lambda runtime: pool)
    pool.end()


@pytest.fixture(scope="module")
def actors():
    """A runtime whose two actors several studies share, on a cluster of their own."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from tests.helpers.lasting_actors import LastingActors

    pool = LastingActors(tn.RayRuntime(workers=2))
    yield tn.Runtime("cpu", threads=1, workers=2, executor=lambda runtime: pool)
    pool.end()


@pytest.fixture(params=["processes", "actors"])
def workers(request):
    """A runtime with workers of either kind."""
    return request.getfixturevalue(request.param)


def train(way, runtime=None, **settings):
    data, valid, _ = tn.data.digits()
    study = tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(
            data[:96],
            valid[:64],
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD,
            epochs=3,
            metrics={"accuracy": tn.metrics.accuracy},
        ),
        space=tn.SearchSpace(
            model={"dropout": tn.Float(0.0, 0.5)}, optimizer={"lr": tn.Float(1e-2, 1.0, log=True), "momentum": 0.5}
        ),
        maximize="accuracy",
        runtime=WAYS[way]() if runtime is None else runtime,
        progress=False,
        seed=5,
        **settings,
    )
    study.run(trials=9)
    return study


def table(study):
    return [(t.number, t.config, t.status, t.reason, t.epochs, t.metrics, t.errors) for t in study.trials]


def numbers_of_workers(study):
    return {report.worker for trial in study.trials for report in trial.reports}


@pytest.fixture(scope="module")
def inline():
    return train("inline", searcher=tn.Sobol())


@pytest.fixture(scope="module")
def in_order():
    return train("inline", scheduler=tn.Halving(), lag=4)


def fused(monkeypatch):
    """All lanes are worth being stacked."""
    monkeypatch.setattr(group, "TRACING", 0.0)
    monkeypatch.setattr(group, "TRIED", 0)
    monkeypatch.setattr(
        group, "measure", lambda lanes, slots, programs, alone: EngineTiming("stacked", slots, alone, alone)
    )


def test_trials_and_scores_are_the_same_to_the_last_digit(inline, workers):
    made = train("workers", workers, searcher=tn.Sobol())
    assert table(made) == table(inline)
    assert [numbers_of_workers(study) for study in (made, inline)] == [{0, 1}, {0}]


def test_with_a_lag_so_are_the_decisions_of_those_who_look_at_scores(in_order, workers):
    assert len({trial.epochs for trial in in_order.trials}) > 1
    assert table(train("workers", workers, scheduler=tn.Halving(), lag=4)) == table(in_order)


def test_lanes_give_the_same_trials_with_scores_that_differ_by_rounding(monkeypatch, inline):
    fused(monkeypatch)
    lanes = train("lanes", searcher=tn.Sobol())
    for one, other in zip(lanes.trials, inline.trials, strict=True):
        assert (one.number, one.config, one.status, one.epochs) == (other.number, other.config, "DONE", other.epochs)
        assert math.isclose(one.metrics["loss"], other.metrics["loss"], rel_tol=1e-5)
        assert one.metrics["accuracy"] == pytest.approx(other.metrics["accuracy"], abs=1.01 / 64)


def test_lanes_in_order_decide_the_same_each_time(monkeypatch, in_order):
    fused(monkeypatch)
    first, second = (train("lanes", scheduler=tn.Halving(), lag=4) for _ in range(2))
    assert table(first) == table(second)
    assert [trial.config for trial in first.trials] == [trial.config for trial in in_order.trials]


@pytest.mark.parametrize("way", ["processes", "lanes"])
def test_the_same_is_confirmed(way, monkeypatch, inline, processes):
    fused(monkeypatch)
    runtime = processes if way == "processes" else None
    expected, found = (study.confirm(top=2, seeds=2) for study in (inline, train(way, runtime, searcher=tn.Sobol())))
    assert found.number == expected.number
    if way == "processes":
        assert found.confirmed == expected.confirmed
    for metric, value in expected.confirmed.metrics.items():
        assert found.confirmed.metrics[metric] == pytest.approx(value, abs=1.01 / 64)
