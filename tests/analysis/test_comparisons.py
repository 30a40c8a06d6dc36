"""Ties with the best, the best so far, learning curves as lines, and LeCun's start."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.records import mixed_record, record_of_trials, scored
from tuneflow.analysis.best_so_far import best_so_far
from tuneflow.analysis.curve_lines import curve_lines, three_best
from tuneflow.analysis.lecun_start import measured_start
from tuneflow.analysis.ties import ties_of
from tuneflow.history.objective import Limit
from tuneflow.history.trial import Trial

CONFIG = scored(0, 1).config
FAILED = Trial(2, CONFIG, "FAILED", "ValueError: no")
FAILED_FIRST = replace(FAILED, number=0)


@pytest.mark.parametrize(("gap", "tied"), [(0.0282, True), (0.0284, False)], ids=["within", "beyond"])
def test_a_trial_ties_within_two_errors_of_the_difference(gap, tied):
    ties = ties_of(record_of_trials([scored(0, 0.9), scored(1, 0.9 - gap)]))
    assert ties.numbers == ((0, 1) if tied else (0,))
    assert ties.reach == pytest.approx(2 * math.hypot(0.01, 0.01))


def test_the_cheapest_tie_is_the_one_of_fewest_seconds_from_its_start():
    fork = scored(2, 0.9, epochs=6, seconds=3, parent=(0, 5))  # of which one epoch was trained by itself
    fork = replace(fork, reports=(fork.reports[-1],))
    ties = ties_of(record_of_trials([scored(0, 0.91, epochs=6, seconds=8), scored(1, 0.9, epochs=6, seconds=2), fork]))
    assert ties.cheapest.number == 1


@pytest.mark.parametrize(
    "record",
    [
        record_of_trials([]),
        record_of_trials([scored(0, 0.9, error=0)]),
        mixed_record(goals=(("accuracy", True), ("loss", False))),
    ],
    ids=["no trial", "no error", "several objectives"],
)
def test_without_a_best_score_that_has_an_error_nothing_ties(record):
    assert ties_of(record) is None


def test_a_configuration_that_was_trained_again_ties_by_its_mean():
    trials = [scored(0, 0.975), scored(1, 0.95, config=CONFIG), scored(2, 0.93, config=CONFIG, repeats=1)]
    assert ties_of(record_of_trials(trials[:2])).numbers == (0, 1)
    assert ties_of(record_of_trials(trials)).numbers == (0,)


def test_what_is_beyond_a_limit_neither_ties_nor_is_the_best_so_far():
    record = record_of_trials([scored(0, 0.9), scored(1, 0.91)], limits=(Limit("accuracy", most=0.905),))
    assert ties_of(record).numbers == (0,)
    assert best_so_far(record).best.tolist() == [0.9, 0.9]


def test_the_best_so_far_never_worsens_and_failures_keep_it():
    course = best_so_far(record_of_trials([FAILED_FIRST, scored(1, 0.5), FAILED, scored(3, 0.4), scored(4, 0.6)]))
    np.testing.assert_equal(course.best, [np.nan, 0.5, 0.5, 0.5, 0.6])
    np.testing.assert_equal(course.scores, [np.nan, 0.5, np.nan, 0.4, 0.6])


def test_the_best_so_far_takes_the_mean_of_a_configuration_that_was_trained_again():
    again = [scored(0, 0.9, config=CONFIG), scored(1, 0.8), scored(2, 0.6, config=CONFIG, repeats=0)]
    record = record_of_trials(again)
    course = best_so_far(record)
    np.testing.assert_allclose(course.best, [0.75, 0.8, 0.8])
    np.testing.assert_allclose(course.scores, [0.75, 0.8, np.nan])
    assert course.best[-1] == record.best.metrics["accuracy"]


@pytest.mark.parametrize(
    ("unit", "spent"), [("trials", [1, 2, 3]), ("epochs", [2, 6, 7]), ("seconds", [1, 4, 6])], ids=str
)
def test_the_best_so_far_counts_trials_epochs_and_seconds(unit, spent):
    last = scored(2, 0.9, epochs=5, seconds=10, parent=(1, 4))
    last = replace(last, reports=last.reports[-1:])
    trials = [scored(0, 0.5, epochs=2, seconds=1), scored(1, 0.6, epochs=4, seconds=3), last]
    assert best_so_far(record_of_trials(trials), unit).spent.tolist() == pytest.approx(spent)


def test_less_is_better_for_a_loss():
    trials = [scored(number, value, metric="loss") for number, value in enumerate((0.5, 0.7, 0.3))]
    assert best_so_far(record_of_trials(trials, [("loss", False)])).best.tolist() == [0.5, 0.5, 0.3]


def test_a_forks_line_begins_on_its_parents():
    fork = scored(1, 0.9, epochs=4, parent=(0, 2))
    fork = replace(fork, reports=fork.reports[2:])
    first, second = curve_lines(record_of_trials([scored(0, 0.8, epochs=3), fork]), "accuracy")
    assert [epoch for epoch, _ in second.points] == [2, 3, 4]
    assert second.points[0] == first.points[1]


def test_three_best_are_ended_trials_in_the_order_of_their_scores():
    values = (0.5, 0.9, 0.7, 0.8, 0.95)
    trials = [scored(number, value) for number, value in enumerate(values)]
    trials[4] = replace(trials[4], status="RUNNING")
    assert three_best(record_of_trials(trials)) == [1, 3, 2]


def test_the_measured_start_is_the_first_trial_at_a_probes_rate():
    record = record_of_trials([scored(0, 0.5), scored(1, 0.9)])
    rate = record.trials[1].config["optimizer"]["lr"]
    probes = {"": SimpleNamespace(rate=rate), "other": SimpleNamespace(rate=math.nan)}
    assert measured_start(replace(record, probes=probes)).number == 1
    assert measured_start(record) is None
