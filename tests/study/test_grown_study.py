"""A study whose space grew goes on: its trials stay as they are, and are read in the new space."""

import json
import sqlite3

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import SPACE, VALID, Scripted, linear, make, trainer
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.study.ledger import Ledger
from tuneflow.train.function_trainer import Function

UNIT = tn.Float(0.0, 1.0)


def cost(x, y=3, kind="a"):
    return (x - 0.3) ** 2 + 0.1 * (y - 4) ** 2 + (kind == "b")


def minimized(space, trials, folder, **settings):
    settings = {"progress": False, "searcher": tn.Sobol()} | settings
    return tn.minimize(cost, tn.SearchSpace(**space), trials=trials, folder=folder, **settings)


def stored(folder):
    with sqlite3.connect(folder / "study.sqlite") as db:
        rows = db.execute("SELECT number, config FROM trial ORDER BY number").fetchall()
    db.close()
    return [json.loads(config) for _, config in rows]


def test_trials_stay_as_they_are_and_are_read_in_the_new_space(tmp_path):
    minimized({"x": UNIT}, 4, tmp_path)
    before = stored(tmp_path)
    best = minimized({"x": tn.Float(-1.0, 1.0), "y": tn.Int(1, 5)}, 8, tmp_path)
    assert stored(tmp_path)[:4] == before
    kept = tn.open(tmp_path)
    assert [trial.config for trial in kept.trials[:4]] == [config | {"y": 3} for config in before]
    assert kept.history.units[:4, 0].tolist() == [(config["x"] + 1) / 2 for config in before]
    assert kept.space.names == list(best.config) == ["x", "y"]
    assert kept.listing().splitlines()[10:] == [
        "grown: x was Float(0.0, 1.0), now Float(-1.0, 1.0)",
        "grown: y is new, Int(1, 5): 3 in the trials before",
    ]


def test_growth_is_shown_once(tmp_path, capsys):
    minimized({"x": UNIT}, 2, tmp_path)
    for _ in range(2):
        minimized({"x": tn.Float(0.0, 2.0), "y": tn.Int(1, 5)}, 3, tmp_path, progress=True)
    changes = "x was Float(0.0, 1.0), now Float(0.0, 2.0); y is new, Int(1, 5): 3 in the trials before"
    assert capsys.readouterr().err.count(f"{tmp_path}: {changes}; 2 trials carried over\n") == 1


def test_space_grows_again_and_each_trial_keeps_its_own(tmp_path):
    minimized({"x": UNIT}, 2, tmp_path)
    minimized({"x": UNIT, "kind": tn.Choice(["b", "a"])}, 4, tmp_path)
    minimized({"x": UNIT, "kind": tn.Choice(["c", "b", "a"]), "y": tn.Int(1, 5)}, 6, tmp_path)
    assert [sorted(config) for config in stored(tmp_path)] == [["x"]] * 2 + [["kind", "x"]] * 2 + [
        ["kind", "x", "y"]
    ] * 2
    configs = [trial.config for trial in tn.open(tmp_path).trials]
    assert [config["y"] for config in configs[:4]] == [3] * 4
    assert [config["kind"] for config in configs[:2]] == ["a", "a"]


def test_earlier_value_stays_when_the_default_changes_later(tmp_path):
    def changed(x, y=5):
        return x

    changed.__qualname__ = cost.__qualname__
    minimized({"x": UNIT}, 1, tmp_path)
    minimized({"x": UNIT, "y": tn.Int(1, 5)}, 1, tmp_path)
    space = tn.SearchSpace(x=UNIT, y=tn.Int(0, 9))
    tn.minimize(changed, space, trials=2, folder=tmp_path, searcher=tn.Sobol(), progress=False)
    assert tn.open(tmp_path).trials[0].config["y"] == 3


def test_space_that_shrank_is_refused_and_left_as_it_was(tmp_path):
    minimized({"x": UNIT}, 3, tmp_path)
    with pytest.raises(FingerprintError, match=r"x: high was 1.0, now 0.6\. Outside of it: trials 1, 2, of 3\. Use"):
        minimized({"x": tn.Float(0.0, 0.6)}, 3, tmp_path)
    with pytest.raises(FingerprintError, match=r"where was None.*Outside of it: trials 0, 1, 2, of 3\. Use"):
        minimized({"x": UNIT, "where": lambda config: config["x"] > 0.99}, 3, tmp_path)
    with pytest.raises(FingerprintError, match=r"No trial lies outside of it, .* may only grow\. Use .*tn\.Warm"):
        minimized({"x": tn.Float(0.0, 0.999)}, 3, tmp_path)
    assert tn.open(tmp_path).space == tn.SearchSpace(x=UNIT)


SEARCHERS = [
    tn.Grid(3), tn.Random(), tn.TPE(start=3), tn.GP(), tn.CMAES(), tn.Evolution(4, 2), tn.NSGA2(4), tn.Auto(),
]  # fmt: skip


@pytest.mark.parametrize("searcher", SEARCHERS, ids=repr)
def test_searchers_go_on_in_the_new_space(searcher, tmp_path):
    minimized({"x": UNIT}, 3, tmp_path, searcher=searcher)
    minimized({"x": tn.Float(0.0, 8.0), "y": tn.Int(1, 5)}, 9, tmp_path, searcher=searcher)
    trials = tn.open(tmp_path).trials
    assert len({json.dumps(trial.config) for trial in trials}) == len(trials) == 9
    assert any(trial.config["x"] > 1 for trial in trials)


@pytest.mark.parametrize("shuffle", [False, True])
def test_grid_goes_on_with_the_points_that_were_not_tried(shuffle, tmp_path):
    searcher = tn.Grid(shuffle=shuffle)
    minimized({"y": tn.Int(1, 3), "x": 0.5}, 9, tmp_path, searcher=searcher)
    minimized({"y": tn.Int(1, 4), "x": tn.Choice([0.25, 0.5])}, 99, tmp_path, searcher=searcher)
    tried = {(trial.config["x"], trial.config["y"]) for trial in tn.open(tmp_path).trials}
    assert len(tried) == len(tn.open(tmp_path).trials) == 8


def test_grid_may_have_other_points_when_the_space_grows(tmp_path):
    minimized({"y": tn.Int(1, 9), "x": 0.5}, 9, tmp_path, searcher=tn.Grid({"y": [1, 9]}))
    grid = tn.Grid({"y": [1, 4, 9], "x": [0.5]})
    with pytest.warns(UserWarning, match='searcher was "Grid'):
        minimized({"y": tn.Int(1, 9), "x": UNIT}, 9, tmp_path, searcher=grid)
    assert [trial.config["y"] for trial in tn.open(tmp_path).trials] == [1, 9, 4]


def test_space_that_was_finite_may_grow_to_an_infinite_one(tmp_path):
    minimized({"y": tn.Int(1, 3), "x": 0.5}, 9, tmp_path, searcher=tn.Auto())
    assert len(tn.open(tmp_path).trials) == 3
    minimized({"y": tn.Int(1, 3), "x": UNIT}, 5, tmp_path, searcher=tn.Auto())
    assert len(tn.open(tmp_path).trials) == 5


SCHEDULERS = [tn.Halving(2), tn.Hyperband(2), tn.Median(1), tn.Population(4)]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: type(scheduler).__name__)
def test_schedulers_go_on_in_the_new_space(scheduler, tmp_path):
    def study(space):
        settings = {"searcher": tn.Random(), "scheduler": scheduler, "folder": tmp_path}
        return make(space, trainer=Scripted(), minimize="loss", maximize=None, **settings)

    rate = {"lr": tn.Float(0.1, 0.2)}
    with study({"model": {"width": tn.Int(0, 1)}, "optimizer": rate}) as small:
        small.run(trials=6, epochs=7)
    with study({"model": {"width": tn.Int(0, 2)}, "optimizer": rate | {"momentum": UNIT}}) as large:
        large.run(trials=12)
        assert all(trial.ended for trial in large.trials)
        assert {trial.config["optimizer"]["momentum"] for trial in large.trials[:3]} == {0.0}


def test_queue_is_read_in_the_new_space(tmp_path):
    def study(**space):
        space = tn.SearchSpace(**space)
        return tn.Study(space=space, trainer=Function(cost), minimize="value", folder=tmp_path, progress=False)

    with study(x=UNIT) as earlier:
        earlier.enqueue({"x": 0.5})
    with study(x=tn.Float(0.0, 2.0), y=tn.Int(1, 5)) as later:
        later.run(trials=1)
        assert later.trials[0].config == {"x": 0.5, "y": 3}


# Training.


def net(width=8, dropout=0.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Dropout(dropout), nn.Linear(width, 10))


SMALL = {"optimizer": {"lr": tn.Float(0.01, 0.1, log=True)}}
LARGE = {
    "model": {"width": tn.Int(4, 16), "dropout": tn.Float(0.0, 0.5)},
    "optimizer": {"lr": tn.Float(0.01, 0.5, log=True), "momentum": tn.Float(0.0, 0.9)},
    "trainer": {"batch_size": tn.Choice([16, 32])},
}


@pytest.mark.parametrize("earlier", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)], ids=["", "0.1"])
def test_loss_may_become_a_class_to_be_tuned(earlier, tmp_path):
    with make(folder=tmp_path, trainer=trainer(loss=earlier)) as study:
        study.run(trials=1)
    space = SPACE | {"loss": {"label_smoothing": tn.Float(0.0, 0.2)}}
    if earlier.label_smoothing:
        with pytest.raises(FingerprintError, match=r"trainer.loss was .*label_smoothing=0\.1.*, now .*=0\.0"):
            make(space, folder=tmp_path, trainer=trainer(loss=nn.CrossEntropyLoss))
    else:
        make(space, folder=tmp_path, trainer=trainer(loss=nn.CrossEntropyLoss)).close()
        make(space, folder=tmp_path, trainer=trainer(loss=nn.CrossEntropyLoss)).close()


def trained(space, folder=None, **settings):
    return make(space, model=tn.Model(net), folder=folder, searcher=tn.Sobol(), **settings)


def curves(study):
    return [[dict(report.metrics) for report in trial.reports] for trial in study.trials]


@pytest.mark.parametrize("runtime", [{}, {"lanes": 4}], ids=["alone", "lanes"])
def test_paused_trial_goes_on_as_if_nothing_had_happened(runtime, tmp_path):
    settings = {"runtime": tn.Runtime(**runtime)}
    whole = trained(SMALL)
    whole.run(trials=1)
    with trained(SMALL, tmp_path, **settings) as study:
        study.run(trials=1, epochs=1)
    with trained(LARGE, tmp_path, **settings) as study:
        assert study.trials[0].status == "PAUSED"
        study.run(trials=2)
        assert study.trials[1].config["model"] != {"width": 8, "dropout": 0.0}
        for ours, theirs in zip(curves(study)[0], curves(whole)[0], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4 if runtime else 0)


def test_model_of_an_earlier_trial_and_its_looks_are_there(tmp_path):
    with trained(SMALL, tmp_path) as study:
        study.run(trials=1)
        model = study.best.model()
        looked = study.confirm(top=1, seeds=1).confirmed
    with trained(LARGE, tmp_path) as study:
        assert study.best.config["model"] == {"width": 8, "dropout": 0.0}
        assert torch.equal(study.best.model()(VALID.inputs[:9]), model(VALID.inputs[:9]))
        study.trainer.advance = None  # nothing is trained again
        assert study.confirm(top=1, seeds=1).confirmed.metrics == looked.metrics


def test_extended_study_grows_and_a_grown_one_is_extended(tmp_path):
    with trained(SMALL, tmp_path) as study:
        study.run(trials=1)
        study.extend(epochs=4)
    with trained(LARGE, tmp_path, trainer=trainer(epochs=4)) as study:
        study.extend(epochs=5)
        assert [trial.parent for trial in study.trials] == [None, (0, 3), (1, 4)]
        assert [trial.config["model"] for trial in study.trials] == [{"width": 8, "dropout": 0.0}] * 3


def test_new_branch_is_tried_before_the_space_is_stored(tmp_path):
    with make({"optimizer": tn.Choice({"sgd": torch.optim.SGD})}, folder=tmp_path) as study:
        study.run(trials=1)
    wrong = {"optimizer": tn.Choice({"sgd": torch.optim.SGD, "lbfgs": torch.optim.LBFGS})}
    with pytest.raises((TypeError, ValueError), match="LBFGS"):
        make(wrong, folder=tmp_path)
    assert "lbfgs" not in json.dumps(tn.open(tmp_path).facts)


@tn.loop(epochs=2)
def fit(config, run):
    weight = run.place(torch.zeros(2)).requires_grad_()
    optimizer = config["optimizer"]([weight], lr=0.1)
    hidden = {"epochs": 0.0}
    named = {"optimizer": optimizer} if config["optimizer"] is torch.optim.SGD else {"again": hidden}
    for _ in run.epochs(weight=weight, **named):
        optimizer.zero_grad()
        loss = (weight - 1).square().sum()
        loss.backward()
        optimizer.step()
        yield {"loss": loss}


def test_new_branch_of_a_loop_is_rehearsed_alone(tmp_path, capsys):
    def study(**labels):
        space = tn.SearchSpace(optimizer=tn.Choice(labels), rate=UNIT)
        return tn.Study(space=space, trainer=fit, minimize="loss", folder=tmp_path)

    with study(sgd=torch.optim.SGD) as small:
        small.run(trials=1)
    capsys.readouterr()
    study(sgd=torch.optim.SGD, other=torch.optim.SGD).close()
    assert "checking that fit resumes exactly: 3 epochs\n" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"'optimizer': 'adam'.*fit"):
        study(sgd=torch.optim.SGD, other=torch.optim.SGD, adam=torch.optim.Adam)


WEIGHTS = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))


def pretrained(scale=1.0, dropout=0.0):
    module = linear()
    module[1].weight = nn.Parameter(scale * WEIGHTS)
    return module


def test_weights_that_the_builder_brings_are_compared_in_the_earlier_space(tmp_path):
    rates = {"optimizer": SMALL["optimizer"]}
    scales = tn.Float(1.0, 2.0), tn.Float(0.0, 2.0)
    with make({"model": {"scale": scales[0]}, **rates}, model=tn.Model(pretrained), folder=tmp_path) as study:
        study.run(trials=1)
    space = {"model": {"scale": scales[1], "dropout": UNIT}, **rates}
    make(space, model=tn.Model(pretrained), folder=tmp_path).close()
    make(space, model=tn.Model(pretrained), folder=tmp_path).close()
    WEIGHTS.mul_(2)
    try:
        wider = {"model": {"scale": tn.Float(0.0, 3.0), "dropout": UNIT}, **rates}
        with pytest.raises(FingerprintError, match="weights that the builder brings"):
            make(wider, model=tn.Model(pretrained), folder=tmp_path)
    finally:
        WEIGHTS.div_(2)


# Other processes.


def asked(folder, **space):
    return tn.Study(space=tn.SearchSpace(**space), minimize="cost", folder=folder, searcher=tn.Sobol(), progress=False)


def test_study_with_the_earlier_space_goes_on_until_a_trial_is_beyond_it(tmp_path):
    earlier, later = asked(tmp_path, x=tn.Choice(["a", "b"])), asked(tmp_path, x=tn.Choice(["a", "b", "c"]))
    later.enqueue({"x": "a"})
    later.tell(later.ask(), 0.5)
    earlier.tell(earlier.ask(), 0.25)
    assert [trial.config["x"] in "ab" for trial in earlier.trials] == [True, True]
    later.enqueue({"x": "c"})
    later.tell(later.ask(), 0.5)
    for _ in range(2):
        with pytest.raises(StudyError, match=r"trial 2 is of a larger space.*x was Choice.*Make the study again"):
            earlier.ask()
    assert len(later.trials) == 3


def test_constant_states_the_value_that_told_trials_had(tmp_path):
    study = asked(tmp_path, x=UNIT)
    study.tell(study.ask(), 0.5)
    study.close()
    with pytest.raises(FingerprintError, match=r"the value in place of the range, as in y=0\.5"):
        asked(tmp_path, x=UNIT, y=tn.Int(1, 5))
    with pytest.warns(UserWarning, match=r"in 1 trial from before, y=3 is assumed; nothing but"):
        asked(tmp_path, x=UNIT, y=3).close()
    assert asked(tmp_path, x=UNIT, y=tn.Int(1, 5)).trials[0].config["y"] == 3


def test_two_studies_do_not_grow_one_space_at_once(tmp_path, monkeypatch):
    asked(tmp_path, x=tn.Int(1, 2)).close()
    sync = Ledger.sync

    def grown_meanwhile(ledger):
        monkeypatch.undo()
        asked(tmp_path, x=tn.Int(1, 3)).close()
        sync(ledger)

    monkeypatch.setattr(Ledger, "sync", grown_meanwhile)
    with pytest.raises(StudyError, match="another process changed the space"):
        asked(tmp_path, x=tn.Int(0, 2))
    assert tn.open(tmp_path).space == tn.SearchSpace(x=tn.Int(1, 3))
