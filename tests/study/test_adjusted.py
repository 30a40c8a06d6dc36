"""The next study by advice: what changes, what stays, where it is kept, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.small_studies import Scripted, make
from tuneflow.errors import StudyError
from tuneflow.study.adjusted import neighbor

RATE = tn.Float(1e-4, 1e-2, log=True)


def cost(rate):
    """Least at a rate of 0.1, beyond the range."""
    return 0.2 + 0.1 * (np.log10(rate) + 1) ** 2


@tn.loop(epochs=8, check=False)
def falling(config, run):
    for epoch in run.epochs():
        yield {"loss": cost(config["rate"]) + 2.0 / epoch**0.5}


def asked(trials=30, **settings):
    settings = {"space": tn.SearchSpace(rate=RATE), "minimize": "loss", "progress": False} | settings
    study = tn.Study(**settings)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, {name: cost(trial.config["rate"]) for name in study.objective.metrics})
    return study


@pytest.fixture(scope="module")
def looped(tmp_path_factory):
    folder = tn.Folder(tmp_path_factory.mktemp("adjusted") / "rates", keep=2)
    study = tn.Study(
        space=tn.SearchSpace(rate=RATE), trainer=falling, minimize="loss", at="last", limits={"loss": 9.0}, seed=3,
        lag=1, folder=folder, callbacks=[lambda study, trial: None], searcher=tn.TPE(), progress=False,
    )  # fmt: skip
    study.run(trials=30)
    return study


def test_the_next_study_has_the_changes_and_gets_better(looped, capsys):
    looped.progress = looped._progress._shown = True  # so that the lines are printed
    with looped.adjusted() as following:
        lines = capsys.readouterr().err.splitlines()
        following.run(trials=6)
        assert following.space.coordinates[0].whole == tn.Float(1e-4, 0.1, log=True)
        assert (following.trainer.epochs, looped.trainer.epochs) == (16, 8)
        assert following.trials[0].config == pytest.approx(looped.best.config)
        assert following.best.metrics["loss"] < looped.best.metrics["loss"]
    assert [line.split("  ")[0] for line in lines if "adjusted" in line] == ["adjusted"] * 3
    assert any("rate: " in line and "widen it to Float(0.0001, 0.1, log=True)" in line for line in lines)


def test_everything_else_stays(looped, tmp_path):
    with looped.adjusted(tmp_path / "next") as following:
        for name in ("objective", "seed", "paired", "lag", "replicas", "callbacks", "scheduler", "model"):
            assert getattr(following, name) == getattr(looped, name), name
        assert following.searcher.then is looped.searcher
        assert following.runtime.describe() == looped.runtime.describe()


def test_the_folder_is_a_neighbor_with_the_same_settings(looped):
    with looped.adjusted() as following:
        assert following.folder == looped.folder.with_name("rates-2")
        assert following._folder == tn.Folder(following.folder, keep=2)  # nothing public tells keep


@pytest.mark.parametrize(
    ("folder", "following"),
    [("runs/a", "runs/a-2"), ("runs/a-2", "runs/a-3"), ("runs/a-2026", "runs/a-2026-2"), ("a", "a-2")],
    ids=["first", "second", "a year", "no parent"],
)
def test_neighbors_are_numbered(folder, following):
    assert neighbor(tn.Folder(folder, keep=3)) == tn.Folder(Path(following), keep=3)


def test_trials_of_ask_and_tell_are_taken_over():
    study = asked()
    following = study.adjusted()
    assert following.space.coordinates[0].whole == tn.Float(1e-4, 0.1, log=True)
    assert following.ask().config == pytest.approx(study.best.config)
    assert following.folder is None


def test_a_second_adjustment_keeps_the_searcher_behind():
    first = asked(searcher=tn.TPE()).adjusted()
    for _ in range(30):
        trial = first.ask()
        first.tell(trial, cost(trial.config["rate"] / 100))
    second = first.adjusted()
    assert isinstance(second.searcher.then, tn.TPE)


def test_without_any_score_the_next_study_starts_anew():
    study = tn.Study(space=tn.SearchSpace(rate=RATE, kind=tn.Choice(["a", "b"])), minimize="loss", progress=False)
    for number in range(16):
        trial = study.ask()
        if trial.config["kind"] == "a":
            study.tell(trial, None, reason="no")
        else:
            study.tell(trial, float(number))
    assert study.adjusted().space.parameters.keys() == {"rate"} | {"kind"}


def test_nothing_to_change_is_refused_with_what_is_left():
    with pytest.raises(StudyError, match=r"changes no setting\.\nthere is no advice"):
        asked(trials=3).adjusted()
    with pytest.raises(StudyError, match=r"changes no setting\.\nthere is no advice"):
        asked(minimize=["loss", "size"]).adjusted()


def test_other_settings_in_the_folder_are_refused(looped, tmp_path):
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path / "other"):
        pass
    with pytest.raises(tn.errors.FingerprintError, match="other settings"):
        looped.adjusted(tmp_path / "other")


def test_folds_and_replicas_are_carried_over():
    """Studies of a tn.Trainer that trains nothing, 6 of whose 10 trials report a loss that is not finite."""
    trainer = Scripted(folds=2)
    trainer.table = [[float(width)] * 3 if width < 4 else [math.nan] * 3 for width in range(10)]
    space = tn.SearchSpace(model={"width": tn.Int(0, 9)})
    study = make(space, trainer=trainer, replicas=2, searcher=tn.Random(), minimize="loss", maximize=None)
    study.run(trials=10)
    following = study.adjusted()
    assert following.space.coordinates[0].whole == tn.Int(0, 3)
    assert (following.replicas, following.trainer.folds, following.trainer.single) == (2, 2, trainer)
