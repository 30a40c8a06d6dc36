"""Limits: what trials have to keep to, and what becomes of those that do not."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import FingerprintError, NothingFinished

SPACE = {"x": tn.Float(0.0, 1.0)}


def study(limits, **more):
    return tn.Study(space=tn.SearchSpace(**SPACE), maximize="score", limits=limits, progress=False, **more)


def tell(made, *told):
    for metrics in told:
        made.tell(made.ask(), metrics)


def test_the_best_is_the_best_within_the_limits():
    made = study({"size": 2.0})
    tell(made, {"score": 0.9, "size": 2.1}, {"score": 0.5, "size": 2.0}, {"score": 0.6, "size": 1.0})
    assert made.best.number == 2
    assert "size 1.0000" in repr(made.best)


@pytest.mark.parametrize(("limit", "within"), [(2.0, [0, 1]), ((1.0, None), [1, 2]), ((1.0, 2.0), [1])])
def test_a_limit_is_the_most_or_a_range(limit, within):
    made = study({"size": limit})
    tell(made, *({"score": 0.5, "size": size} for size in (0.5, 1.5, 2.5)))
    assert [t.number for t in made.trials if made.history.within(t)] == within


def test_breaches_are_a_column_for_each_bound():
    made = study({"size": (1.0, 2.0), "score": (0.4, None)})
    tell(made, {"score": 0.5, "size": 2.5}, {"score": math.nan, "size": 1.0})
    made.ask()
    np.testing.assert_allclose(
        made.history.breaches, [[-1.5, 0.5, -0.1], [math.inf] * 3, [math.nan] * 3], atol=1e-12, equal_nan=True
    )


def test_with_nothing_within_the_closest_is_named():
    made = study({"size": 2.0})
    tell(made, {"score": 0.9, "size": 4.0}, {"score": 0.1, "size": 2.5})
    with pytest.raises(NothingFinished, match=r"has size at most 2; trial 1 comes closest, with size 2\.5"):
        _ = made.best
    assert made.front == []


def test_a_value_that_is_no_number_is_beyond_every_limit():
    made = study({"size": 2.0})
    tell(made, {"score": 0.9, "size": math.nan}, {"score": 0.1, "size": 1.0})
    assert made.best.number == 1
    assert made.history.breaches[0, 0] == math.inf


def test_the_front_has_none_beyond():
    made = tn.Study(space=tn.SearchSpace(**SPACE), minimize=["a", "b"], limits={"c": 1.0}, progress=False)
    tell(made, {"a": 0.0, "b": 0.0, "c": 2.0}, {"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 2.0, "b": 1.0, "c": 1.0})
    assert [t.number for t in made.front] == [1, 2]


def test_the_epoch_that_speaks_is_within_where_one_is():
    @tn.loop(epochs=3)
    def grows(config, run):
        for epoch in run.epochs(weight=torch.zeros(1)):
            yield {"score": float(epoch), "size": float(epoch)}

    made = tn.Study(
        space=tn.SearchSpace(**SPACE), trainer=grows, maximize="score", limits={"size": 2.0}, progress=False
    )
    made.run(trials=1)
    assert made.best.metrics == {"score": 2.0, "size": 2.0}


def test_the_line_of_a_trial_says_that_it_is_beyond(capsys):
    @tn.loop(epochs=1)
    def large(config, run):
        for _ in run.epochs():
            yield {"score": 0.9, "size": 4.0}

    made = study({"size": 2.0}, trainer=large)
    made.progress = True
    made.run(trials=1)
    assert "score 0.9000  size 4.0000  beyond the limits" in capsys.readouterr().err


def test_limits_belong_to_the_study(tmp_path):
    with study({"size": 2.0}, folder=tmp_path) as made:
        tell(made, {"score": 0.9, "size": 4.0}, {"score": 0.1, "size": 1.0})
    assert tn.open(tmp_path).best.number == 1
    with pytest.raises(FingerprintError, match=r"limits.*2\.0.*3\.0"):
        study({"size": 3.0}, folder=tmp_path)
    with pytest.raises(FingerprintError, match="limits"):
        study(None, folder=tmp_path)


@pytest.mark.parametrize("limits", [{"size": None}, {"size": (None, None)}, {"size": "2"}, {"size": (2, 1)},
                                    {"size": math.nan}, {"size": (1, 2, 3)}, {"size": True}])  # fmt: skip
def test_a_limit_that_is_none(limits):
    with pytest.raises(ValueError, match=r"limits\['size'\] needs to be the most that it may be"):
        study(limits)


@pytest.mark.parametrize("name", ["score", "accuracy", "top_acc"])
def test_a_plain_number_for_a_metric_of_which_more_is_better_is_refused(name):
    with pytest.raises(ValueError, match=r"more is better; write \(0\.8, None\) for at least 0\.8, or \(None, 0\.8\)"):
        study({name: 0.8})
    assert study({name: (0.8, None)}).objective.limits[0].least == 0.8


def test_a_plain_number_for_robust_is_refused():
    train, valid, _ = tn.data.digits()
    metrics = {"held": tn.harden.Robust(0.1)}
    trainer = tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1, metrics=metrics)
    with pytest.raises(ValueError, match=r'of "held" more is better; write \(0\.8, None\)'):
        tn.Study(model=tn.Model(lambda: nn.Linear(64, 10)), trainer=trainer, space=tn.SearchSpace(optimizer={}),
                 limits={"held": 0.8})  # fmt: skip


def test_limits_that_are_no_dict():
    with pytest.raises(TypeError, match="limits needs a dict of metric to bound"):
        study([("size", 2.0)])


def test_a_metric_that_the_trainer_does_not_report():
    train, valid, _ = tn.data.digits()
    trainer = tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1)
    with pytest.raises(ValueError, match='limits names "sise", which is not reported'):
        tn.Study(
            model=tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
            trainer=trainer,
            space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}),
            limits={"sise": 1.0},
        )


def test_a_metric_that_was_never_told():
    made = study({"size": 2.0})
    with pytest.raises(tn.errors.StudyError, match='metric "size" was never reported'):
        tell(made, {"score": 0.9})


def test_halving_promotes_those_within_the_limits():
    @tn.loop(epochs=4)
    def sized(config, run):
        for _ in run.epochs(weight=torch.zeros(1)):
            yield {"score": config["x"], "size": 3 * config["x"]}

    made = tn.Study(
        space=tn.SearchSpace(**SPACE),
        trainer=sized,
        scheduler=tn.Halving(factor=2),
        maximize="score",
        limits={"size": 1.5},
        progress=False,
    )
    made.run(trials=12)
    full = [trial for trial in made.trials if trial.status == "DONE"]
    assert full
    assert all(made.history.within(trial) for trial in full)
    assert all(0 < breach < 2 for breach in made.history.breach_at(1)[made.history.costs_at(1) < -0.51])
