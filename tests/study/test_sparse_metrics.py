"""Metrics of the module that only each k-th epoch and the last one report, through a whole study."""

import math

import pytest
import torch

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, linear
from tests.helpers.worker_training import ONE
from tuneflow.errors import StudyError
from tuneflow.history.objective import Limit, Objective
from tuneflow.schedule import Start, Stop
from tuneflow.train.patience import Patience, Waiting

SPACE = {"optimizer": {"lr": tn.Float(0.001, 0.1, log=True)}}


class Norm:
    """The norm of the weights and a random number, which is the same in every report."""

    def __init__(self, every=2, value=None):
        self.every = every
        self._value = value

    def of_module(self, module, data):
        drawn = torch.rand(()).item()
        if self._value is not None:
            return self._value
        return sum(p.square().sum().item() for p in module.parameters()) + drawn

    def for_test(self):
        return Norm(1, 7.0)


def trainer(norm=None, **settings):
    settings = {"epochs": 5, "metrics": {"accuracy": tn.metrics.accuracy, "norm": norm or Norm()}} | settings
    loss, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD
    return tn.Trainer(TRAIN[:64], VALID[:32], loss=loss, optimizer=optimizer, **settings)


def make(norm=None, training=None, **settings):
    settings = {"minimize": "norm"} | settings
    parts = {"model": tn.Model(linear), "trainer": trainer(norm, **(training or {})), "runtime": ONE, "progress": False}
    return tn.Study(space=tn.SearchSpace(**SPACE), **{**parts, **settings})


def norms(trial):
    return {report.epoch: report.metrics["norm"] for report in trial.reports if "norm" in report.metrics}


@pytest.fixture(scope="module")
def whole():
    study = make(searcher=tn.Random())
    study.run(trials=3)
    return study


def test_reports_have_it_at_each_kth_epoch_and_the_last(whole):
    assert [list(norms(trial)) for trial in whole.trials] == [[2, 4, 5]] * 3


def test_the_best_of_the_epochs_that_have_it_counts(whole):
    trial = whole.trials[0]
    assert trial.metrics["norm"] == min(norms(trial).values())
    assert whole.best.metrics["norm"] == min(min(norms(trial).values()) for trial in whole.trials)
    assert whole.best.model() is not None


@pytest.mark.parametrize(
    "settings",
    [{}, {"lag": 2}, {"runtime": tn.Runtime(device="cpu", lanes=2)}],
    ids=["pieces", "lag", "lanes"],
)
def test_neither_pieces_nor_lanes_change_where_and_what_it_is(tmp_path, whole, settings):
    for epochs in (3, 4, None):
        study = make(searcher=tn.Random(), folder=tmp_path, **settings)
        study.run(trials=3, epochs=epochs)
        study.close()
    for trial, same in zip(study.trials, whole.trials, strict=True):
        assert norms(trial) == pytest.approx(norms(same), rel=1e-5)


def test_replicas_report_its_mean_and_the_last_value_of_one_that_ended():
    study = make(training={"patience": Patience(1, "accuracy", maximize=True)}, replicas=2)
    study.run(trials=1)
    reports = study.trials[0].reports
    assert all(math.isfinite(value) for value in norms(study.trials[0]).values())
    assert [r.epoch for r in reports if "norm" in r.metrics] == [e for e in (2, 4, 5) if e <= len(reports)]


def test_a_limit_and_one_of_several_objectives_may_be_sparse():
    limited = make(minimize="loss", limits={"norm": (None, 1e9)})
    limited.run(trials=1)
    assert "norm" in limited.best.metrics
    several = make(minimize=["loss", "norm"], training={"epochs": 3})
    several.run(trials=2)
    assert {"loss", "norm"} <= several.front[0].metrics.keys()


def test_an_epoch_counts_if_it_has_all_metrics():
    objective = Objective((("a", True),), limits=(Limit("b", 0),), sparse=(("b", 2), ("c", 3)))
    assert objective.every == 2
    first, second = tn.types.Report(1, {"a": 9.0}), tn.types.Report(2, {"a": 1.0, "b": 1.0})
    assert objective.pick([first, second]) is second
    assert objective.pick([first]) is None
    objective.check(first.metrics)
    with pytest.raises(StudyError, match='"a" was never reported'):
        objective.check({"b": 1.0})


def test_a_value_that_is_not_finite_where_it_is_reported_is_a_divergence():
    study = make(Norm(2, math.nan))
    study.run(trials=1)
    assert study.trials[0].status == "DIVERGED"
    assert "norm is nan" in study.trials[0].reason


def test_patience_counts_epochs_and_ends_where_the_metric_is_seen():
    waiting = Waiting(Patience(3, "norm"))
    ends = []
    for epoch in range(1, 16):
        due = not epoch % 5
        waiting.after_epoch({"norm": 1.0} if due else {}, () if due else ("norm",))
        kept, waiting = waiting.state(), Waiting(Patience(3, "norm"))
        waiting.load(kept)
        ends += [epoch] if waiting.over else []
    assert ends[0] == 10
    assert waiting.over == "norm no better for 10 epochs"


@pytest.mark.parametrize(
    "training",
    [{"patience": Patience(2, "norm")}, {"schedule": tn.rates.Plateau(metric="norm", patience=1)}],
    ids=["patience", "plateau"],
)
def test_rules_of_training_may_watch_it(training):
    study = make(Norm(2, 1.0), training)
    study.run(trials=1)
    assert len(study.trials[0].reports) == (5 if "schedule" in training else 4)


def test_halving_of_fewer_epochs_than_a_metric_needs_names_another_way():
    with pytest.raises(ValueError, match=r"first reported at epoch 5; use a metric with a smaller every\."):
        make(Norm(9, 1.0), scheduler=tn.Halving(factor=2))


@pytest.mark.parametrize(
    ("scheduler", "says"),
    [
        (tn.Halving(factor=2), "use first=2"),
        (tn.Population(members=4, every=1), "use a multiple of 2"),
    ],
    ids=["halving", "population"],
)
def test_comparing_before_there_is_a_value_is_refused(scheduler, says):
    with pytest.raises(ValueError, match=says):
        make(scheduler=scheduler)


@pytest.mark.parametrize(
    "scheduler",
    [tn.Halving(factor=2, first=3), tn.Median(trials=1), tn.Population(members=4, every=2)],
    ids=["halving", "median", "population"],
)
def test_schedulers_go_by_the_value_that_there_is(scheduler):
    study = make(scheduler=scheduler)
    study.run(trials=5)
    assert study.best.metrics["norm"] == min(t.metrics["norm"] for t in study.trials if t.metrics)


@pytest.mark.parametrize("every", [0, -1, 1.5, True], ids=str)
def test_every_needs_to_be_a_whole_number(every):
    with pytest.raises(ValueError, match='metric "norm": every needs to be a whole number >= 1'):
        trainer(Norm(every))


def test_a_misspelt_name_fails_before_training():
    with pytest.raises(ValueError, match="not reported"):
        make(minimize="nrom")


@pytest.mark.parametrize("method", ["brief", "for_test"])
@pytest.mark.parametrize("other", [None, 3, tn.metrics.accuracy, Norm], ids=["none", "number", "function", "class"])
def test_methods_that_return_no_metric_of_the_module_are_refused(method, other):
    norm = Norm()
    setattr(norm, method, lambda: other)
    with pytest.raises(TypeError, match=rf'metric "norm": {method}\(\) needs to return an object with of_module, got'):
        trainer(norm)


def test_the_winner_is_judged_by_the_metric_for_test(whole):
    assert whole.test(TEST[:50])["norm"].value == 7.0


def test_folds_end_in_a_model_on_all_rows():
    loss, optimizer, metrics = torch.nn.CrossEntropyLoss(), torch.optim.SGD, {"norm": Norm()}
    folded = tn.Trainer(TRAIN[:64], folds=2, loss=loss, optimizer=optimizer, epochs=3, metrics=metrics)
    study = make(trainer=folded)
    study.run(trials=1)
    assert list(norms(study.trials[0])) == [2, 3]
    assert study.best.model() is not None


class StopsEarly(tn.Scheduler):
    def next(self, space, history, rng):
        return Stop(history.paused[0].number, "too slow") if history.paused else Start(1)


def test_a_trial_that_is_stopped_before_it_is_reported_has_no_score_and_says_so():
    study = make(Norm(4), scheduler=StopsEarly())
    study.run(trials=1)
    study.run(trials=2)
    assert study.trials[0].reason == "too slow; no score, as norm was not reported by epoch 1"
    assert study.history.costs[0] == math.inf
