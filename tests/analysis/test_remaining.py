"""The epochs that a run will still train, and how well they are foretold under schedulers that stop trials."""

import math

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.analysis.remaining import end_rates, epochs_left
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial, with_reports

SPACE, OBJECTIVE = tn.SearchSpace(x=tn.Float(0, 1)), Objective((("loss", False),))


def history(*trials, epochs=10):
    """A history of trials (status, epochs)."""
    made = History(SPACE, OBJECTIVE, epochs=epochs)
    for number, (status, reached) in enumerate(trials):
        reports = [Report(epoch, {"loss": 1.0}) for epoch in range(1, reached + 1)]
        made.record(with_reports(Trial(number, {"x": 0.5}, status), reports, OBJECTIVE))
    return made


@pytest.mark.parametrize(
    ("trials", "left"),
    [
        ([], 40),
        ([("DONE", 10), ("DONE", 10)], 20),
        ([("DONE", 10), ("RUNNING", 3)], 27),
        ([("DONE", 10), ("PAUSED", 3)], 27),
        ([("RUNNING", 3), ("RUNNING", 0)], 37),
    ],
    ids=["new", "half", "running", "interrupted", "two"],
)
def test_the_number_is_exact_where_every_trial_runs_to_the_full_length(trials, left):
    assert epochs_left(history(*trials), 4) == left


def test_nothing_is_known_without_a_limit_or_a_full_length():
    assert math.isnan(epochs_left(history(), math.inf))
    assert math.isnan(epochs_left(history(epochs=None), 4))


def test_new_trials_end_as_often_as_earlier_ones():
    stopped = history(("DONE", 10), ("STOPPED", 1), ("STOPPED", 1), ("STOPPED", 1))
    assert end_rates(stopped.trials, set(), (), 10)[1] == 0.75
    assert epochs_left(stopped, 8) == pytest.approx(4 * (1 + 9 / 4))


def test_a_paused_trial_is_over_once_a_later_one_went_beyond_it():
    assert epochs_left(history(("PAUSED", 1), ("PAUSED", 1)), 2) == 18
    assert epochs_left(history(("PAUSED", 1), ("DONE", 10)), 2) == 0


@tn.loop(epochs=9)
def fit(config, run):
    for epoch in run.epochs():
        yield {"loss": config["x"] + 1 / epoch}


@pytest.mark.parametrize("name", ["Halving", "Hyperband", "Median"])
def test_under_schedulers_that_stop_trials_the_estimate_is_about_right_from_a_third_on(name):
    estimates = []

    def follow(study, trial):
        done = sum(t.epochs for t in study.trials)
        estimates.append((done, done + epochs_left(study.history, 40)))

    study = tn.Study(
        space=SPACE, trainer=fit, scheduler=getattr(tn, name)(), minimize="loss", progress=False, callbacks=[follow]
    )
    study.run(trials=40)
    whole = sum(t.epochs for t in study.trials)
    later = [whole_then for done, whole_then in estimates if done > whole / 3]
    assert np.median(np.abs(np.array(later) / whole - 1)) < 0.2
