"""Replay: honest studies are equal when they are trained again, and each forgery differs."""

import shutil

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers.forged import forge_report, forge_state, scaled, swapped
from tests.helpers.small_studies import make, scripted, trainer
from tuneflow.errors import Diverged, StudyError
from tuneflow.study.replay.replay_study import drawn

EPOCHS = 3


def studied(folder):
    return make(trainer=trainer(epochs=EPOCHS, batch_size=64), folder=tn.Folder(folder, keep="all"), at="last")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay") / "study"
    with studied(folder) as study:
        study.run(trials=2)
    return folder


@pytest.fixture
def folder(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "study")


def test_honest_study_is_equal_to_the_last_bit(honest):
    with studied(honest) as study:
        replayed = study.replay()
    assert repr(replayed) == f"replayed 2 of 2 slices (seed {replayed.seed}): 2 equal"
    assert replayed.ok


FORGERIES = {
    "accuracy by a thousandth": lambda folder: forge_report(folder, 1, 2, "accuracy", 0.001),
    "loss in the last epoch": lambda folder: forge_report(folder, 1, EPOCHS, "loss", -0.001),
    "train loss": lambda folder: forge_report(folder, 1, 1, "train_loss", 0.1),
    "weights by a thousandth": lambda folder: forge_state(folder, 1, scaled(1.001)),
    "weights of another trial": lambda folder: swapped(folder, 0, 1),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_differs(name, folder):
    FORGERIES[name](folder)
    with studied(folder) as study:
        (finding,) = study.replay().differs
    assert finding.slice == "trial 1, epochs 1 to 3"


def test_damaged_state_differs(folder):
    (path,) = (folder / "states").glob("000001-*.state")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with studied(folder) as study:
        (finding,) = study.replay().differs
    assert "SHA-256" in finding.reason


def test_share_draws_at_least_one_slice_and_the_seed_repeats_the_choice(honest):
    with studied(honest) as study:
        one = study.replay(0.01)
        again = study.replay(0.01, seed=one.seed)
    assert len(one.findings) == 1
    assert [f.slice for f in one.findings] == [f.slice for f in again.findings]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 1.0])
def test_a_slice_is_drawn_at_the_rate_of_the_share(share):
    """Within four standard deviations of 2000 draws: a false alarm in 16,000 runs."""
    rate = np.mean([17 in drawn(200, share, seed) for seed in range(2000)])
    assert abs(rate - share) <= 4 * (share * (1 - share) / 2000) ** 0.5


@pytest.mark.parametrize("share", [0, -0.1, 1.01, True, "all", float("nan")])
def test_share_is_above_0_and_up_to_1(share):
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        scripted().replay(share)


def test_study_without_a_training_says_so():
    with pytest.raises(StudyError, match="has trained nothing yet"):
        scripted().replay()


def test_trials_of_ask_and_tell_are_refused():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss")
    with pytest.raises(StudyError, match="trained elsewhere"):
        study.replay()


# Ends.


def diverging(table):
    return scripted([[3.0, 2.0, 1.0], table])


def test_trial_that_diverged_diverges_again():
    study = diverging([2.0, Diverged(2, 1, 2.0), 0.0])
    study.run()
    assert [trial.status for trial in study.trials] == ["DONE", "DIVERGED"]
    assert study.replay().ok


def test_trial_that_does_not_diverge_again_differs():
    study = diverging([2.0, Diverged(2, 1, 2.0), 0.0])
    study.run()
    study.trainer.table[1][1] = 1.0
    (finding,) = study.replay().differs
    assert "is DIVERGED" in finding.reason
    assert "trained again it is not: it goes on" in finding.reason


def test_failure_that_does_not_come_again_is_left_open():
    study = scripted([[3.0, 2.0, 1.0], [2.0, 1.5, ConnectionError("gone")]])
    study.run()
    assert [finding.verdict for finding in study.replay().findings] == ["equal", "equal"]
    study.trainer.table[1][2] = 1.0
    replayed = study.replay()
    assert [finding.verdict for finding in replayed.findings] == ["equal", "open"]
    assert replayed.ok


def test_patience_ends_a_trial_again(tmp_path):
    settings = {"trainer": trainer(epochs=6, patience=1), "space": {"optimizer": {"lr": tn.Float(0.99, 1.0)}}}
    study = make(**settings, model=tn.Model(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))))
    study.run(trials=1)
    assert study.replay().ok
