"""Metrics of the module in a study: once for each structure, in every report, the same after a resume."""

from functools import partial

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, make, net, trainer
from tests.helpers.worker_training import ONE
from tuneflow.errors import StudyError
from tuneflow.measure import Parameters
from tuneflow.train.job import Job

SPACE = {"model": {"width": tn.Choice([4, 6])}, "optimizer": {"lr": tn.Float(0.01, 0.5, log=True)}}


class Counted:
    """The number of parameters, plus how often it was taken, with an error."""

    once_per_structure = True

    def __init__(self):
        self._taken = 0  # not a setting, which would be in the fingerprint

    @property
    def taken(self):
        return self._taken

    def of_module(self, module, data):
        assert data.inputs.max() == 16  # not normalized
        assert module(data.inputs[:2]).shape == (2, 10)
        self._taken += 1
        return sum(p.numel() for p in module.parameters()) + self.taken / 100, 0.5


def size_of(width):
    return 64 * width + width + width * 10 + 10


def counting(counted=None, metrics=None, **settings):
    counted = counted or Counted()
    metrics = {"accuracy": tn.metrics.accuracy, "size": counted} | (metrics or {})
    return {"space": SPACE, "trainer": trainer(metrics=metrics, epochs=2), "runtime": ONE, **settings}


def reported(study):
    return [(dict(r.metrics) | {"seconds": 0}, dict(r.errors)) for trial in study.trials for r in trial.reports]


def sizes(study):
    return {(t.config["model"]["width"], r.metrics["size"], r.errors["size"]) for t in study.trials for r in t.reports}


def test_it_is_taken_once_for_each_structure_and_stands_in_every_report():
    counted = Counted()
    study = make(**counting(counted))
    study.run(trials=5)
    assert counted.taken == len(sizes(study)) == 2
    assert {(width, int(size), error) for width, size, error in sizes(study)} == {
        (4, size_of(4), 0.5),
        (6, size_of(6), 0.5),
    }
    assert all(len(trial.reports) == 2 for trial in study.trials)


@pytest.mark.parametrize(
    "settings", [{}, {"lag": 2}, {"scheduler": tn.Halving(factor=2)}], ids=["plain", "lag", "halving"]
)
def test_a_study_in_pieces_equals_one_in_a_piece_and_takes_nothing_again(tmp_path, settings):
    whole = make(**counting(**settings))
    whole.run(trials=4)
    pieces, counts = [], []
    for epochs in (1, 2, 5, None):
        counted = Counted()
        pieces = make(**counting(counted, folder=tmp_path, **settings))
        pieces.run(trials=4, epochs=epochs)
        pieces.close()
        counts.append(counted.taken)
    assert sum(counts) == 2
    assert {(w, int(size)) for w, size, _ in sizes(pieces)} == {(w, int(size)) for w, size, _ in sizes(whole)}
    assert len(sizes(pieces)) == 2  # each structure has one value, whenever it was taken


def test_of_two_studies_of_one_folder_the_first_value_stays(tmp_path):
    studies = [make(**counting(folder=tmp_path)) for _ in range(2)]
    for trials in (1, 2, 3, 4, 5, 6):
        studies[trials % 2].run(trials=trials)
    assert len(sizes(studies[0])) == 2


def test_lanes_have_the_same_measures():
    alone, other = (
        make(**counting(Parameters(), {"mean": MeanWeight()}, runtime=tn.Runtime("cpu", threads=1, lanes=lanes)))
        for lanes in (1, 3)
    )
    for study in (alone, other):
        study.run(trials=3)
    means = [[report.metrics["mean"] for t in study.trials for report in t.reports] for study in (alone, other)]
    assert means[1] == pytest.approx(means[0], abs=1e-6)
    assert len(set(means[0])) == 6
    assert [t.metrics["size"] for t in other.trials] == [t.metrics["size"] for t in alone.trials]


def test_it_is_an_objective_and_a_limit():
    study = make(**counting(Parameters(), maximize="accuracy", minimize="size", limits={"size": size_of(4)}))
    study.run(trials=4)
    assert {trial.metrics["size"] for trial in study.front} == {size_of(4)}
    assert [study.history.within(t) for t in study.trials] == [t.config["model"]["width"] == 4 for t in study.trials]


class FailsOnWide:
    once_per_structure = True

    def of_module(self, module, data):
        if [*module.parameters()][-2].shape[1] == 6:
            raise RuntimeError("too wide")
        return 1.0


class Fails:
    once_per_structure = True

    def of_module(self, module, data):
        raise RuntimeError("no clock here")


def test_a_measure_that_raises_fails_its_trial_by_name_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr("tuneflow.check.dry_run.check_structure_metrics", lambda *_: None)
    study = make(**counting(FailsOnWide()))
    study.run(trials=5)
    by_width = {(t.config["model"]["width"], t.status, t.reason) for t in study.trials}
    assert by_width == {(4, "DONE", ""), (6, "FAILED", 'RuntimeError: too wide (metric "size")')}
    assert all("raise RuntimeError" in t.detail for t in study.trials if t.status == "FAILED")
    with pytest.raises(StudyError, match=r"5 trials in a row failed, the last with .* \(metric \"size\"\)"):
        make(**counting(Fails())).run(trials=9)


def test_the_dry_run_names_it_before_trial_0():
    with pytest.raises(ValueError, match=r'metric "size": RuntimeError: no clock here'):
        make(**counting(Fails()))


@pytest.mark.parametrize("settings", [{"replicas": 2}, {"folds": 2}])
def test_replicas_and_folds_have_that_of_their_first_module(settings):
    folds = settings.pop("folds", None)
    metrics = {"size": Parameters()}
    data = {"valid": VALID} if folds is None else {"folds": folds}
    repeated = tn.Trainer(
        TRAIN[:64], **data, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1, metrics=metrics
    )
    study = make(space=SPACE, trainer=repeated, runtime=ONE, maximize=None, minimize="size", **settings)
    study.run(trials=1)
    (trial,) = study.trials
    assert (trial.metrics["size"], trial.errors.get("size")) == (size_of(trial.config["model"]["width"]), None)


def test_confirm_and_learning_curve_have_it_without_taking_it_again():
    counted = Counted()
    study = make(**counting(counted, minimize="size", maximize=None, at="last"))
    study.run(trials=3)
    taken = counted.taken
    assert study.confirm(top=2, seeds=2).confirmed.metrics["size"] in {size for _, size, _ in sizes(study)}
    study.best.learning_curve(rows=[64], seeds=1)
    assert counted.taken == taken


class OnAnyRows:
    """The number of rows that it is given."""

    once_per_structure = True

    def of_module(self, module, data):
        return len(data)


def test_a_test_measures_anew_on_its_own_rows():
    study = make(**counting(OnAnyRows(), maximize="accuracy"))
    study.run(trials=1)
    scores = study.test(TEST)
    assert (study.best.metrics["size"], scores["size"].value) == (len(VALID), len(TEST))
    assert list(scores) == ["loss", "accuracy", "size"]


class MeanWeight:
    """A metric of the module that changes with every epoch."""

    def of_module(self, module, data):
        return next(module.parameters()).mean().item(), 0.25


def test_a_metric_of_every_epoch_is_computed_by_the_trainer():
    each = trainer(metrics={"mean": MeanWeight(), "size": Parameters()}, epochs=2)
    job = Job(tn.Model(net), {"optimizer": {"lr": 0.1}}, ONE)
    reports = [report for _, report in each.advance(job, each.init(job), 2)]
    assert len({report.metrics["mean"] for report in reports}) == 2
    assert {report.errors["mean"] for report in reports} == {0.25}
    assert all("size" not in report.metrics for report in reports)  # which a study adds
    assert each.reports == ["loss", "mean", "size", "train_loss"]


class Destroys:
    """A metric that leaves its module useless."""

    def __init__(self, once):
        self._once = once

    @property
    def once_per_structure(self):
        return self._once

    def of_module(self, module, data):
        with torch.no_grad():
            for parameter in module.bfloat16().parameters():
                parameter.zero_()
        return 1.0


@pytest.mark.parametrize("once", [True, False])
def test_a_metric_may_change_its_module(once):
    plain, other = (
        make(**counting(MeanWeight(), before)) for before in ({}, {"accuracy": Destroys(once), "mean": MeanWeight()})
    )
    for study in (plain, other):
        study.run(trials=1)
    first, second = ([r.metrics["size"] for t in s.trials for r in t.reports] for s in (plain, other))
    assert first == second
    scores = other.test(TEST)
    assert scores["size"].value == scores["mean"].value != 0
    assert other.best.model()(TEST.inputs[:2]).any()


def test_a_class_in_place_of_an_instance_is_refused():
    with pytest.raises(TypeError, match=r'metric "macs" needs an instance, got the class MACs; add parentheses'):
        trainer(metrics={"macs": tn.measure.MACs})


def test_the_fingerprint_has_the_arguments():
    assert trainer(metrics={"latency": tn.measure.Latency(batch=3)}).describe()["metrics"] == {
        "latency": "Latency(batch=3, threads=1, relative=False, seconds=2.0)"
    }


class Compared:
    """A measure that compares: its own value is 8 alone, and a half of the reference's beside it."""

    once_per_structure, compares, relative = True, True, False

    def of_module(self, module, data, reference=None, unit=None):
        assert reference is None or reference(data.inputs[:2]).shape == (2, 10)
        return 8.0 if unit is None else unit / 2


class Halved:
    """A step that keeps half of the hidden units."""

    def __init__(self, keep=3):
        self.keep = keep

    def operations(self, module, rows):
        select = partial(tn.compress.Select, index=torch.arange(self.keep))
        return [select("1", "weight", 0), select("1", "bias", 0), select("3", "weight", 1)]


def test_a_winner_is_what_is_compared_with():
    first = make(space=SPACE, trainer=trainer(epochs=1), runtime=ONE)
    first.run(trials=1)
    metrics = {"accuracy": tn.metrics.accuracy, "size": Compared()}
    forks = make(
        model=tn.Model(first.best, steps={"halve": Halved}),
        trainer=trainer(epochs=1, metrics=metrics), runtime=ONE,
        space={"halve": {"keep": tn.Choice([2, 3])}, "optimizer": {"lr": tn.Float(0.01, 0.1)}},
    )  # fmt: skip
    forks.run(trials=2)
    assert {trial.metrics["size"] for trial in forks.trials} == {4.0}
