"""Auto: what it chooses, that it says so, and that only the trials decide it."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.searching import cube
from tests.helpers.small_studies import TRAIN, VALID
from tuneflow.history.objective import Objective
from tuneflow.search import auto
from tuneflow.search.exhaustive import Exhaustive
from tuneflow.seeds import stream
from tuneflow.testing import check_searcher

LOSS = (("loss", False),)


def filled(space, trials, goals=LOSS, status="DONE"):
    """A history of so many random trials."""
    history, rng = tn.types.History(space, Objective(goals)), np.random.default_rng(0)
    for number in range(trials):
        metrics = {name: float(rng.random()) for name, _ in goals} if status == "DONE" else {}
        history.record(tn.Trial(number, space.sample(rng), status, metrics=metrics))
    return history


def chosen(history):
    searcher, reason = tn.Auto().choice(history.space, history)
    return type(searcher), reason


def asked_till_it_ends(space, most=200):
    study = tn.Study(space=space, searcher=tn.Auto())
    configs = []
    while (trial := study.ask()) is not None and len(configs) < most:
        study.tell(trial, float(np.nansum(space.to_unit(trial.config) - 0.3) ** 2))
        configs.append(str(trial.config))
    return study, configs


def test_a_few_trials_of_anything_are_for_the_gp():
    assert chosen(filled(cube(3), 0)) == (tn.GP, "less than 1,000 trials of 3 parameters")
    assert chosen(filled(cube(30), 499)) == (tn.GP, "less than 500 trials of 30 numbers")


def test_very_many_trials_are_for_tpe_and_sooner_for_cmaes_where_all_are_numbers():
    labeled = tn.SearchSpace(kind=tn.Choice(["a", "b"]), **{f"x{i}": tn.Float(0, 1) for i in range(10)})
    assert chosen(filled(cube(4), 999))[0] is tn.GP
    assert chosen(filled(cube(4), 1_000))[0] is tn.TPE
    assert chosen(filled(labeled, 999))[0] is tn.GP
    assert chosen(filled(labeled, 1_000))[0] is tn.TPE
    assert chosen(filled(cube(5), 500)) == (tn.CMAES, "500 trials of 5 numbers")


def test_several_objectives_come_to_evolution_in_the_end():
    goals = (*LOSS, ("size", True))
    assert chosen(filled(cube(2), auto.FRONT - 1, goals))[0] is tn.GP
    assert chosen(filled(cube(2), auto.FRONT, goals))[0] is tn.NSGA2


def test_a_crowd_under_way_is_for_tpe():
    assert chosen(filled(cube(2), auto.CROWD, status="RUNNING"))[0] is tn.GP
    assert chosen(filled(cube(2), auto.CROWD + 1, status="RUNNING"))[0] is tn.TPE


@pytest.mark.parametrize("where", [(), lambda config: config["a"] + config["b"] < 6])
def test_a_finite_space_is_tried_to_its_end_and_nothing_twice(where):
    for space in (
        tn.SearchSpace(where=where, a=tn.Int(1, 4), b=tn.Choice([1, 2, 3])),
        tn.SearchSpace(where=where, a=tn.Int(1, 9), b=tn.Choice([1, 2, 3, 4])),
    ):
        levels = {axis.name: int(axis.parameter.levels) for axis in space.coordinates}
        study, configs = asked_till_it_ends(space)
        assert sorted(configs) == sorted(map(str, space.grid(levels)))
        assert study.searcher.ends


def test_a_finite_space_of_many_configurations_ends_paired_or_not(monkeypatch):
    monkeypatch.setattr(auto, "SMALL", 10)
    for paired in (True, False):
        study = tn.Study(space=tn.SearchSpace(a=tn.Int(0, 11)), searcher=tn.Auto(), paired=paired, progress=False)
        while (trial := study.ask()) is not None and len(study.trials) < 100:
            study.tell(trial, float(trial.config["a"]))
        assert len({trial.config["a"] for trial in study.trials}) == 12
        assert study.searcher.ends


def test_a_tiny_space_without_labels_or_numbers_has_one_trial():
    _, configs = asked_till_it_ends(tn.SearchSpace(n=tn.Constant(3)))
    assert configs == ["{'n': 3}"]


def test_what_is_left_is_what_nobody_proposed():
    space = tn.SearchSpace(a=tn.Int(0, 2))
    history = tn.types.History(space, Objective(LOSS))
    history.record(tn.Trial(0, {"a": 1}, "RUNNING"))
    for number in (1, 2):
        history.record(tn.Trial(number, Exhaustive().suggest(space, history, stream(0)), "RUNNING"))
    assert sorted(trial.config["a"] for trial in history.trials) == [0, 1, 2]
    assert Exhaustive().suggest(space, history, stream(0)) is None


def test_the_order_of_a_tiny_space_is_the_seeds():
    space = tn.SearchSpace(a=tn.Int(0, 9))
    first = {
        seed: Exhaustive().suggest(space, tn.types.History(space, Objective(LOSS), seed), stream(0))["a"]
        for seed in range(9)
    }
    assert len(set(first.values())) > 1


@pytest.mark.parametrize("remaining", [0, 3, 10_000])
def test_what_is_to_come_decides_nothing(remaining):
    history = filled(cube(2), 8)
    before = tn.Auto().suggest(history.space, history, stream(0, "search", 8))
    history.remaining = remaining
    assert tn.Auto().suggest(history.space, history, stream(0, "search", 8)) == before


def test_a_study_in_pieces_is_the_study_in_one_go(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "LONG", 10)

    def bowl(x, y):
        return (x - 0.3) ** 2 + (y - 0.6) ** 2

    def configs(folder):
        return [trial.config for trial in tn.open(folder).trials]

    space = tn.SearchSpace(x=tn.Float(0, 1), y=tn.Float(0, 1))
    for trials in (7, 9, 14):
        tn.minimize(bowl, space, trials=trials, searcher=tn.Auto(), folder=tmp_path / "pieces")
    tn.minimize(bowl, space, trials=14, searcher=tn.Auto(), folder=tmp_path / "whole")
    assert configs(tmp_path / "pieces") == configs(tmp_path / "whole")


def test_a_change_of_searcher_keeps_the_laws(monkeypatch):
    for name in ("LONG", "NUMBERS", "FRONT"):
        monkeypatch.setattr(auto, name, 3)
    monkeypatch.setattr(auto, "CROWD", 1)
    check_searcher(tn.Auto)


def test_it_says_what_it_chose_and_why_once_for_each_choice(caplog, monkeypatch):
    monkeypatch.setattr(auto, "LONG", 3)
    with caplog.at_level(logging.INFO, "tuneflow"):
        tn.minimize(lambda x: x, tn.SearchSpace(x=tn.Float(0, 1)), trials=5, searcher=tn.Auto())
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Auto")]
    assert said == [
        f"Auto: {tn.GP()!r} from trial 0 on, for less than 3 trials of 1 parameter",
        f"Auto: {tn.TPE()!r} from trial 3 on, for 3 trials of 1 parameter",
    ]


def test_a_resumed_study_is_told_that_the_searcher_goes_on(tmp_path, caplog):
    space = tn.SearchSpace(x=tn.Float(0, 1))
    for trials in (2, 3):
        with caplog.at_level(logging.INFO, "tuneflow"):
            tn.minimize(lambda x: x, space, trials=trials, searcher=tn.Auto(), folder=tmp_path, progress=False)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Auto")]
    wheres = ["from trial 0 on", "goes on at trial 2"]
    assert said == [f"Auto: {tn.GP()!r} {where}, for less than 1,000 trials of 1 parameter" for where in wheres]


def test_its_settings_are_its_own_whatever_it_chose():
    study, _ = asked_till_it_ends(cube(2), most=3)
    assert repr(study.searcher) == "Auto()"


def test_a_model_with_a_learning_rate_is_measured_first():
    def study(searcher, **optimizer):
        return tn.Study(
            model=tn.Model(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
            trainer=tn.Trainer(TRAIN[:96], VALID[:64], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1),
            space=tn.SearchSpace(optimizer=optimizer),
            searcher=searcher,
            runtime=tn.Runtime("cpu", threads=1),
            progress=False,
        )

    lr, momentum = tn.Float(1e-4, 1.0, log=True), tn.Float(0.0, 0.95)
    own, lecuns = study(tn.Auto(), lr=lr), study(tn.LeCun(tn.GP()), lr=lr)
    for each in (own, lecuns):
        each.run(trials=3)
    assert [t.config for t in own.trials] == [t.config for t in lecuns.trials]
    searcher, reason = own.searcher.choice(own.space, own.history)
    assert repr(searcher) == repr(tn.LeCun(tn.GP()))
    assert reason.endswith("; optimizer.lr was measured first")
    own.history.number = 0
    assert own.searcher.choice(own.space, own.history)[1].endswith("; optimizer.lr is measured first")
    other = study(tn.Auto(), momentum=momentum)
    assert type(other.searcher.choice(other.space, other.history)[0]) is tn.GP
