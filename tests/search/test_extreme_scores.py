"""Scores beyond what sums and squares can hold, and trainings that fail: told apart, without a warning."""

import math

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.history.magnitude import LARGE, magnitude, mean_of
from tuneflow.history.objective import Objective
from tuneflow.history.trainings import means_of
from tuneflow.history.trial import Report
from tuneflow.schedule.median import Median
from tuneflow.schedule.population import Population
from tuneflow.search.observations import Observations

SPACE = tn.SearchSpace(x=tn.Float(0, 1))


def history_of(*trials, space=SPACE, epochs=1):
    history = tn.types.History(space, Objective((("loss", False),)), epochs=epochs)
    for trial in trials:
        history.record(trial)
    return history


def ended(number, loss, **facts):
    report = Report(1, {"loss": loss})
    return tn.Trial(number, {"x": number / 9}, "DONE", metrics=report.metrics, epochs=1, reports=(report,), **facts)


def test_the_magnitude_keeps_the_order_and_is_one_for_usual_scores():
    values = np.array([[1.0, -1e308], [math.inf, 1.7e308], [3.0, 1e307], [math.nan, -math.inf]])
    assert magnitude(values)[0] == 1
    scaled = values / magnitude(values)
    assert np.abs(scaled[:3, 1]).max() <= LARGE
    assert (np.argsort(scaled[:, 1]) == np.argsort(values[:, 1])).all()


def test_a_mean_is_finite_where_the_sum_is_not():
    assert mean_of(np.array([1e308, 1e308, 1e308])) == pytest.approx(1e308)
    assert mean_of(np.array([1.0, math.inf])) == math.inf
    assert mean_of(np.array([0.1] * 3)) == np.add.reduce([0.1] * 3) / 3


def test_means_of_trainings_have_no_error_where_one_is_not_finite():
    means, errors = means_of([{"a": 1e308, "b": 1.0, "c": 1.0}, {"a": -1e308, "b": math.inf, "c": 3.0}])
    assert means == {"a": 0.0, "b": math.inf, "c": 2.0}
    assert errors == {"a": pytest.approx(1e308), "c": 1.0}


def test_extreme_scores_keep_their_order_as_observations():
    losses = [1e308, -1e308, 1.7e308, 0.0, 1e300]
    scores = Observations.of(history_of(*(ended(number, loss) for number, loss in enumerate(losses))))
    assert np.argsort(scores.costs).tolist() == np.argsort(losses).tolist()


def test_configurations_that_each_failed_once_are_no_observations():
    failed = [tn.Trial(number, {"x": 0.5}, "FAILED", repeats=number - 2) for number in (2, 3)]
    assert Observations.of(history_of(ended(0, 1.0), ended(1, 2.0), *failed)) is None


def test_the_median_of_extreme_scores_stops_the_worse_half_only():
    trials = [ended(number, loss) for number, loss in enumerate([-1e308, -1e308, 1e308, 1e308])]
    decisions = []
    for loss in (-1.1e308, 1.1e308):
        report = Report(1, {"loss": loss})
        live = tn.Trial(4, {"x": 0.5}, metrics=report.metrics, epochs=1, reports=(report,))
        decisions.append(Median(trials=2).next(SPACE, history_of(*trials, live, epochs=2), np.random.default_rng(0)))
    assert isinstance(decisions[0], tn.schedule.Start)
    assert decisions[1] == tn.schedule.Stop(4, "worse than 4 of 4 at epoch 1")


@pytest.mark.parametrize("space", [SPACE, tn.SearchSpace()], ids=["one number", "nothing to change"])
def test_a_population_continues_members_that_were_interrupted_after_their_last_epoch(space):
    members = []
    for number in range(4):
        reports = tuple(Report(epoch, {"loss": float(number)}) for epoch in (1, 2))
        config = {"x": 0.5} if len(space) else {}
        members.append(tn.Trial(number, config, "PAUSED", metrics={"loss": 0.0}, epochs=2, reports=reports))
    history = history_of(*members, space=space, epochs=2)
    decision = Population(members=4).next(space, history, np.random.default_rng(0))
    assert decision == tn.schedule.Continue(0, 2)


def test_a_population_forks_in_a_space_without_a_parameter():
    members = []
    for number in range(4):
        report = Report(1, {"loss": float(number)})
        status = "STOPPED" if number == 3 else "PAUSED"
        members.append(tn.Trial(number, {}, status, metrics=report.metrics, epochs=1, reports=(report,)))
    empty = tn.SearchSpace()
    decision = Population(members=4).next(empty, history_of(*members, space=empty, epochs=2), np.random.default_rng(0))
    assert decision == tn.schedule.Fork(0, 1, {}, 2)
