"""The setting `rows`, and the learning curve: nested rows, scores that more rows change, and trainings kept."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import tuneflow as tn
from tests.helpers.small_studies import TRAIN, VALID, linear
from tuneflow.analysis.confirmed import Confirmed
from tuneflow.data.nested_rows import nested_part, nested_rows
from tuneflow.errors import StudyError
from tuneflow.study.learning_curve import LearningCurve

CLASSES = tn.Data(torch.zeros(200, 1), torch.arange(200) % 10 // 7)  # 70 % and 30 %
NUMBERS = tn.Data(torch.zeros(200, 1), torch.rand(200, generator=torch.Generator().manual_seed(0)))


def study(space=None, folder=None, data=(TRAIN[:200], VALID[:100]), **settings):
    trainer = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2}
    trainer |= {"metrics": {"accuracy": tn.metrics.accuracy}} | settings.pop("trainer", {})
    space = {"optimizer": {"lr": tn.Float(0.05, 0.5)}} | (space or {})
    settings = {"maximize": "accuracy", "progress": False, "runtime": tn.Runtime("cpu", threads=1)} | settings
    return tn.Study(
        model=tn.Model(linear),
        trainer=tn.Trainer(*data, **trainer),
        space=tn.SearchSpace(**space),
        folder=folder,
        **settings,
    )


# Rows.


@pytest.mark.parametrize("data", [CLASSES, NUMBERS, tn.Data(torch.zeros(9, 1), torch.arange(9))])
def test_more_rows_contain_fewer_and_the_seed_decides_which(data):
    order = nested_rows(data, 3)
    assert sorted(order.tolist()) == list(range(len(data)))
    assert torch.equal(order, nested_rows(data, 3))
    assert not torch.equal(order, nested_rows(data, 4))


@pytest.mark.parametrize("count", [10, 37, 100, 199])
def test_every_part_has_the_classes_in_proportion(count):
    part = nested_part(CLASSES, count, 0)
    assert part.targets.sum().item() == pytest.approx(0.3 * count, abs=1)


def test_trial_trains_and_fits_its_normalizer_on_so_many_rows():
    trainer = tn.Trainer(NUMBERS, NUMBERS, loss=nn.MSELoss(), optimizer=torch.optim.SGD, batch_size=10)
    job = tn.types.Job(tn.Model(linear), {"trainer": {"rows": 50}}, tn.Runtime("cpu"), seed=5)
    session = trainer.configured(job.config).session(job)
    rows = nested_rows(NUMBERS, 5)[:50].sort().values
    assert torch.equal(torch.cat([y for _, y in session.train.batches(50)]), NUMBERS.targets[rows])
    assert session.steps == 5
    assert session.valid.source.targets.shape == (200,)


@pytest.mark.parametrize("kind", [True, "whiten", "robust"])
def test_scaling_is_fitted_to_these_rows_only(kind):
    inputs = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * 5 + 3
    data = tn.Data(inputs, inputs[:, :1] * 7 + 50)
    trainer = tn.Trainer(data, data, loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    model, runtime = tn.Model(lambda: nn.Linear(3, 1), normalize=kind), tn.Runtime("cpu")
    config = {"trainer": {"rows": 20}}
    session = trainer.configured(config).session(tn.types.Job(model, config, runtime))
    part = data[nested_rows(data, 0)[:20].sort().values]
    alone = tn.Trainer(part, part, loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    expected = alone.configured({}).session(tn.types.Job(model, {}, runtime))
    assert torch.equal(session.normalizer.mean, expected.normalizer.mean)
    assert torch.equal(session.scale.std, expected.scale.std)


def test_all_rows_are_those_of_a_training_without_the_setting():
    plain, whole = study({"optimizer": {"lr": 0.1}}), study({"optimizer": {"lr": 0.1}, "trainer": {"rows": 200}})
    for each in (plain, whole):
        each.run(trials=1)
    assert plain.trials[0].metrics == whole.trials[0].metrics


def test_rows_are_tuned_and_lanes_score_as_alone():
    space = {"trainer": {"rows": tn.Choice([40, 100, None])}}
    alone, lanes = study(space), study(space, runtime=tn.Runtime("cpu", threads=1, lanes=3))
    for each in (alone, lanes):
        each.run(trials=6)
    assert len({trial.config["trainer"]["rows"] for trial in alone.trials}) > 1
    for one, other in zip(alone.trials, lanes.trials, strict=True):
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)


def test_rows_of_a_dataset_and_of_folds():
    dataset = TensorDataset(TRAIN.inputs[:60], TRAIN.targets[:60])

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 60

        def __getitem__(self, row):
            return dataset[row]

    plain = study({"trainer": {"rows": 20}}, data=(Rows(), VALID[:50]), trainer={"epochs": 1})
    folds = study({"trainer": {"rows": 20}}, data=(TRAIN[:60],), trainer={"epochs": 1, "folds": 3})
    for each in (plain, folds):
        each.run(trials=1)
        assert each.trials[0].status == "DONE"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (tn.Int(10, 300), "at most the 200 training rows, got 300"),
        (tn.Choice([100, 201]), "got 201"),
        (500, "got 500"),
        (0, "rows needs to be a whole number >= 1"),
    ],
)
def test_more_rows_than_there_are_are_refused_before_trial_0(rows, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        study({"trainer": {"rows": rows}})


def test_batch_of_a_lone_row_is_noticed_for_every_number_of_rows():
    model = tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)))
    space = tn.SearchSpace(trainer={"rows": tn.Int(64, 70), "batch_size": 64}, optimizer={"lr": 0.1})
    trainer = tn.Trainer(TRAIN[:90], VALID[:50], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD)
    with pytest.raises(ValueError, match=r"needs more than one row.*rows"):
        tn.Study(model=model, trainer=trainer, space=space, progress=False)


def test_fold_has_fewer_rows():
    with pytest.raises(ValueError, match="at most the 40 training rows in the smallest fold, got 50"):
        study({"trainer": {"rows": 50}}, data=(TRAIN[:60],), trainer={"folds": 3})


# The curve.


def test_curve_has_scores_of_fresh_seeds_which_more_rows_improve(tmp_path):
    with study(folder=tmp_path) as ours:
        ours.run(trials=2)
        curve = ours.best.learning_curve(rows=[20, 200], seeds=2)
        assert curve.rows == (20, 200)
        assert curve.scores[1] > curve.scores[0] + 0.1
        assert all(error > 0 for error in curve.errors)
        assert curve.gain == pytest.approx(curve.scores[1] - curve.scores[0])
    with study(folder=tmp_path) as again:
        again.trainer.init = None  # nothing is trained again
        assert again.best.learning_curve(rows=[200, 20], seeds=2).scores == curve.scores


def test_curve_of_all_rows_is_what_confirm_measures():
    ours = study()
    ours.run(trials=1)
    curve = ours.best.learning_curve(rows=[200], seeds=2)
    looks = ours._looks(2).of([ours.trials[0]], range(2))  # private: the trainings of confirm, without its choice
    assert curve.scores == [looks[0].metrics["accuracy"]]


def test_curve_without_numbers_takes_an_eighth_to_all():
    ours = study({"optimizer": {"lr": 0.1}}, trainer={"epochs": 1})
    ours.run(trials=1)
    assert ours.best.learning_curve(seeds=1).rows == (25, 50, 100, 200)


def point(score, error=0.01, reason=""):
    scores = ({}, {}) if reason else ({"accuracy": score}, {"accuracy": error})
    return Confirmed(0, {}, *scores, 3, reason)


CURVES = {
    "rising": ([0.7, 0.8], "better: more rows are likely to help"),
    "flat": ([0.8, 0.81], "0.0100 +- 0.0141 better, which is within its error: whether more rows help is not clear"),
    "a little worse": ([0.81, 0.8], "worse, which is within its error: whether more rows help is not clear"),
    "falling": ([0.9, 0.8], "worse: more rows do not help this configuration"),
}


@pytest.mark.parametrize(("scores", "words"), CURVES.values(), ids=CURVES.keys())
def test_curve_prints_as_a_table_with_a_verdict(scores, words):
    text = repr(LearningCurve("accuracy", (100, 200), tuple(map(point, scores)), 1)).splitlines()
    assert text[0] == "rows  accuracy +- standard error over 3 fresh seeds"
    assert text[1] == f" 100  {scores[0]:.4f} +- 0.0100"
    assert text[3].startswith("from 100 to 200 rows it is ")
    assert text[3].endswith(words)


def test_training_that_diverged_has_its_reason_in_the_table():
    curve = LearningCurve("accuracy", (10, 20), (point(0.5), point(0, reason="DIVERGED: loss not finite")), 1)
    assert repr(curve).splitlines()[-1] == "  20  DIVERGED: loss not finite"
    assert np.isnan(curve.scores[1])
    assert math.isnan(curve.gain)


def test_less_is_better_where_the_objective_is_minimized():
    assert LearningCurve("accuracy", (1, 2), (point(0.5), point(0.3)), -1).gain == pytest.approx(0.2)


REFUSED = {
    "too many": ([400], ValueError, "there are 200 training rows, got rows=400"),
    "none": ([0], ValueError, "whole number >= 1"),
    "a number": (100, TypeError, "needs a list of numbers of rows, such as [100, 200], got 100"),
}


@pytest.mark.parametrize(("rows", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_rows_of_a_curve_are_refused(rows, error, words):
    ours = study({"optimizer": {"lr": 0.1}}, trainer={"epochs": 1})
    ours.run(trials=1)
    with pytest.raises(error, match=re.escape(words)):
        ours.best.learning_curve(rows=rows)


def test_loop_of_ones_own_has_no_learning_curve():
    @tn.loop(epochs=1)
    def mine(config, run):
        weight = torch.zeros(1)
        for _ in run.epochs(weight=weight):
            yield {"loss": config["x"]}

    ours = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=mine, progress=False)
    ours.run(trials=1)
    with pytest.raises(StudyError, match=r"needs a tn.Trainer, which can train on fewer rows, got Loop"):
        ours.best.learning_curve()
