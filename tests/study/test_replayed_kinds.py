"""Replay of studies of many kinds; tests/benchmarks/replay.py has more of them."""

import pytest
import torch

from tests.helpers.forged import forge_note
from tests.helpers.replayed_kinds import HONEST, VALID, studied, trainer
from tuneflow.history.trial import Report
from tuneflow.study.replay.agreement import Gap, steps_of, verdict_of
from tuneflow.study.replay.replay_slices import slices_of
from tuneflow.study.replay.state_difference import state_difference
from tuneflow.train.job import TrainState

QUICK = ("loop", "extended", "confirmed", "folds and final models", "diverging", "measures")


@pytest.mark.parametrize("name", QUICK)
def test_honest_study_is_equal(name):
    study = HONEST[name]()
    replayed = study.replay()
    assert {one.verdict for one in replayed.findings} == {"equal"}, repr(replayed)


def test_slices_are_cut_where_a_state_is_kept():
    study = studied(1)
    slices = [(work.start, work.until) for work in slices_of(study.history, lambda _: {0, 2, 3, 7})]
    assert slices == [(0, 2), (2, 3)]


def test_tests_on_other_data_are_said_to_be_left_out():
    study = studied(1)
    study.test((VALID.inputs[:50] + 1, VALID.targets[:50]))
    assert "not replayed: the test of trial 0" in repr(study.replay())


def test_other_settings_are_said():
    study = studied(1)
    study.runtime.precision = "bf16"
    assert "precision was fp32, now bf16" in repr(study.replay())


# Rounding against forgery.

NOISE = [Gap(epoch, name, 0, 0, 1e-6 * 10**epoch) for epoch in (1, 2, 3) for name in ("loss", "train_loss")]


def gaps(**sizes):
    """Gaps of three epochs, by name of the metric."""
    return [Gap(epoch + 1, name, 0, 0, size) for name, row in sizes.items() for epoch, size in enumerate(row)]


JUDGED = {
    "no gap": (gaps(loss=(0, 0, 0), train_loss=(0, 0, 0)), "equal"),
    "as the noise": (gaps(loss=(1e-6, 1e-5, 1e-4), train_loss=(1e-6, 1e-5, 1e-4)), "drift"),
    "least": (gaps(loss=(1e-7, 0, 0), train_loss=(0, 0, 0)), "drift"),
    "more than the noise": (gaps(loss=(1e-6, 0.1, 1e-4), train_loss=(1e-6, 1e-5, 1e-4)), "differs"),
    "alone": (gaps(loss=(0, 1e-5, 0), train_loss=(0, 0, 0)), "differs"),
    "alone in its epoch": (gaps(loss=(0, 1e-5, 0), train_loss=(0, 1e-5, 0)), "differs"),
    "not finite": (gaps(loss=(0, 0, float("inf")), train_loss=(1e-6, 1e-5, 1e-4)), "differs"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_rounding_is_told_from_forgery(name):
    numbers, verdict = JUDGED[name]
    assert verdict_of(numbers, NOISE, "fp32")[0] == verdict


def test_accuracy_may_be_off_by_a_row_where_other_numbers_drift():
    drift = gaps(loss=(1e-6, 1e-5, 1e-4), train_loss=(1e-6, 1e-5, 1e-4))
    row = Gap(2, "accuracy", 0.90, 0.91, 0.01, step=0.01)
    assert verdict_of([*drift, row], NOISE, "fp32")[0] == "drift"
    assert verdict_of([*gaps(loss=(0, 0, 0)), row], NOISE, "fp32")[0] == "differs"


def test_step_of_a_metric_is_the_least_difference_between_its_values():
    values = (0.5, 0.75, 0.625)
    assert steps_of(Report(1, {"accuracy": value}) for value in values) == {"accuracy": 0.05}
    assert steps_of([Report(1, {"loss": 0.5}), Report(2, {"loss": 0.501})])["loss"] == pytest.approx(0.001)


STATES = {
    "equal": ({"w": torch.ones(2)}, 0.0),
    "NaN in both": ({"w": torch.tensor([1.0, float("nan")])}, 0.0),
    "another shape": ({"w": torch.ones(3)}, float("inf")),
    "another kind": ({"w": torch.ones(2, dtype=torch.float64)}, float("inf")),
    "missing": ({}, float("inf")),
    "more": ({"w": torch.ones(2), "name": "x"}, float("inf")),
    "close": ({"w": torch.tensor([1.0, 1.001])}, 0.001 / 2**0.5),
}


@pytest.mark.parametrize("name", STATES)
def test_difference_of_states_is_relative_to_their_norm(name):
    values, size = STATES[name]
    stored = {"w": torch.tensor([1.0, float("nan")])} if name == "NaN in both" else {"w": torch.ones(2)}
    assert state_difference(TrainState(1, stored), TrainState(1, values)) == pytest.approx(size, rel=1e-3)


def test_forged_training_under_a_fresh_seed_differs(tmp_path):
    study = HONEST["confirmed"](tmp_path)
    forge_note(tmp_path, "look ", lambda look: look["metrics"].update(loss=look["metrics"]["loss"] - 0.001))
    (finding,) = study.replay().differs
    assert "under fresh seed" in finding.slice


def test_shorter_trial_that_is_said_to_be_done_differs():
    study = studied(trainer=trainer(epochs=3), trials=1)
    study.history.epochs = study.trainer.epochs = 4
    (finding,) = study.replay().differs
    assert finding.reason == "it is DONE after 3 of 4 epochs"


def test_start_that_is_not_kept_is_trained_again_from_the_first_ancestor(tmp_path):
    study = HONEST["population"](tmp_path)
    kept = {path.stem for path in (tmp_path / "states").iterdir()}
    assert any("{:06d}-{:06d}".format(*trial.parent) not in kept for trial in study.trials if trial.parent)
    assert study.replay().ok
