"""Scores of trials that were not trained equally long, and the columns of the history that they come from."""

import math

import numpy as np
import pytest
from scipy import optimize

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, with_reports, with_status
from tuneflow.search.observations import Observations, rising
from tuneflow.seeds import stream

LOSS = Objective((("loss", False),))


def history_of(curves, space=None, objective=LOSS, epochs=9):
    """A trial for each (status, losses); its `x` is its number over their count."""
    history = tn.types.History(space or tn.SearchSpace(x=tn.Float(0, 1)), objective, 0, epochs)
    for number, (status, losses) in enumerate(curves):
        trial = tn.Trial(number, {"x": number / len(curves)}, "RUNNING")
        reports = [tn.types.Report(epoch, {"loss": loss}, {"loss": 0.1}) for epoch, loss in enumerate(losses, 1)]
        trial = with_reports(trial, reports, objective)
        history.record(with_status(trial, status, "", CUT if status == "STOPPED" else ""))
    return history


def costs_of(curves, **settings):
    scores = Observations.of(history_of(curves, **settings))
    return dict(zip(scores.numbers.tolist(), scores.costs.tolist(), strict=True))


def test_the_view_of_all_trials_is_one_by_which_a_history_is_known():
    history, other = history_of([("DONE", [1.0])]), history_of([("DONE", [1.0])])
    view = history.trials
    history.record(tn.Trial(1, {"x": 0.5}))
    assert view is history.trials is not other.trials
    assert len(view) == 2


def test_trials_that_came_to_their_own_end_count_as_they_are():
    history = history_of(
        [("DONE", [3.0, 2.0]), ("DIVERGED", [1.0, math.nan]), ("DONE", [1.0, 4.0]), ("RUNNING", [0.5])]
    )
    scores = Observations.of(history)
    assert scores.numbers.tolist() == [0, 1, 2]
    assert scores.costs.tolist() == history.costs[:3].tolist() == [2.0, math.inf, 1.0]
    assert scores.errors[[0, 2]].tolist() == [0.1, 0.1]
    assert scores.units.tolist() == history.units[:3].tolist()
    assert scores.pending.tolist() == history.units[3:].tolist()


def test_without_a_finite_score_there_are_none():
    assert Observations.of(history_of([])) is None
    assert Observations.of(history_of([("RUNNING", [1.0]), ("FAILED", []), ("DIVERGED", [1.0, math.nan])])) is None


@pytest.mark.parametrize("status", ["PAUSED", "STOPPED"])
def test_a_shorter_trial_counts_with_what_became_of_those_that_had_as_much(status):
    went_on = [("DONE", [10.0, 4.0]), ("DONE", [12.0, 8.0])]
    costs = costs_of([*went_on, (status, [11.0]), (status, [9.0]), (status, [10.0]), (status, [12.5])])
    assert costs == {0: 4.0, 1: 8.0, 2: 6.0, 3: 4.0, 4: 4.0, 5: 8.5}


def test_those_that_lost_at_an_earlier_rung_come_after_those_that_lost_later():
    """Three rungs, where every promotion takes the best: the order of the rungs is the order of the scores."""
    rng, curves = np.random.default_rng(0), []
    first = np.sort(rng.random(27))
    for place, loss in enumerate(first):
        length = 9 if place < 3 else 3 if place < 9 else 1
        curves.append(("DONE" if length == 9 else "PAUSED", (1 + loss) * 0.9 ** np.arange(length)))
    costs = costs_of(curves)
    assert max(costs[n] for n in range(3)) < min(costs[n] for n in range(3, 9))
    assert max(costs[n] for n in range(3, 9)) < min(costs[n] for n in range(9, 27))


def test_an_early_epoch_that_says_nothing_is_not_believed():
    """The later order is the reverse of the earlier one: all short trials count alike."""
    done = [("DONE", [20.0 + n, 10.0 - n]) for n in range(5)]
    costs = costs_of([*done, *[("PAUSED", [n + 20.5]) for n in range(4)]])
    assert len({costs[n] for n in range(5, 9)}) == 1
    assert costs[5] == pytest.approx(np.mean([10.0 - n for n in range(5)]))


def test_with_nothing_complete_the_longest_count_as_they_are():
    costs = costs_of([("PAUSED", [3.0]), ("PAUSED", [2.0, 1.0, 0.5]), ("PAUSED", [5.0]), ("DIVERGED", [math.nan])])
    assert costs[1] == 0.5
    assert costs[1] < costs[0] < costs[2] < costs[3] == math.inf


def test_what_ended_by_itself_is_not_extended():
    curves = [("DONE", [3.0, 2.0, 1.0]), ("STOPPED", [3.0, 2.5])]
    history = history_of(curves)
    assert history.reached.tolist() == [math.inf, 2.0]
    patient = tn.types.History(history.space, LOSS, 0, 9)
    patient.record(history.trials[0])
    patient.record(
        with_status(with_reports(tn.Trial(1, {"x": 0.5}), history.trials[1].reports, LOSS), "STOPPED", "had")
    )
    assert patient.reached.tolist() == [math.inf, math.inf]
    assert Observations.of(patient).costs.tolist() == [1.0, 2.5]
    assert Observations.of(history).costs.tolist() != [1.0, 2.5]


def test_a_trial_that_trains_on_counts_with_its_last_rung_and_is_not_pending():
    scores = Observations.of(
        history_of([("PAUSED", [3.0]), ("RUNNING", [2.0, 0.1]), ("PAUSED", [4.0]), ("RUNNING", [])])
    )
    assert scores.numbers.tolist() == [0, 1, 2]
    assert scores.costs.tolist() == [3.0, 2.0, 4.0]
    assert scores.pending.tolist() == [[0.75]]


def test_each_objective_is_extended_by_itself():
    objective = Objective((("loss", False), ("size", True)))
    history = tn.types.History(tn.SearchSpace(x=tn.Float(0, 1)), objective, 0, 2)
    for number, (status, length, size) in enumerate([("DONE", 2, 1.0), ("DONE", 2, 3.0), ("PAUSED", 1, 2.0)]):
        reports = [tn.types.Report(e, {"loss": (number + 1.0) / e, "size": size}) for e in range(1, length + 1)]
        history.record(with_status(with_reports(tn.Trial(number, {"x": 0.5}), reports, objective), status))
    assert Observations.of(history).costs.tolist() == [[0.5, -1.0], [1.0, -3.0], [2.0, -2.0]]


def test_far_worse_scores_do_not_bend_the_scale():
    curves = [("DONE", [1.0, 0.5]), ("DONE", [2.0, 1.5]), ("DONE", [3.0, 2.5]), ("PAUSED", [1.5]), ("PAUSED", [1e18])]
    costs = costs_of(curves)
    assert costs[3] == pytest.approx(1.0)
    assert 2.5 < costs[4] < 100


@pytest.mark.skipif(not hasattr(optimize, "isotonic_regression"), reason="SciPy has it from 1.12 on")
@pytest.mark.parametrize("seed", range(5))
def test_the_rising_function_is_the_one_of_least_squares(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.permutation(30).astype(float), rng.normal(size=30)
    values, fitted = rising(x, y)
    assert values.tolist() == sorted(x)
    np.testing.assert_allclose(fitted, optimize.isotonic_regression(y[np.argsort(x)]).x, rtol=1e-12, atol=1e-12)


def test_equal_places_have_one_value():
    values, fitted = rising(np.array([1.0, 0.0, 1.0]), np.array([2.0, 5.0, 4.0]))
    assert values.tolist() == [0.0, 1.0]
    assert fitted == pytest.approx([11 / 3, 11 / 3])


def test_costs_at_an_epoch_are_the_same_whenever_they_are_asked_for():
    """Asked for before all else, and so kept up to date by every report; or asked for at the end."""
    early, rng = tn.types.History(tn.SearchSpace(x=tn.Float(0, 1)), LOSS, 0, 5), np.random.default_rng(1)
    for epoch in (1, 3, 5):
        assert early.costs_at(epoch).shape == (0,)
    reports = {number: [] for number in range(100)}
    for _ in range(400):
        number = int(rng.integers(min(len(early) + 1, 100)))
        if len(reports[number]) == 5:
            continue
        reports[number].append(tn.types.Report(len(reports[number]) + 1, {"loss": float(rng.random())}))
        early.record(with_reports(tn.Trial(number, {"x": 0.5}), reports[number], LOSS))
    late = tn.types.History(early.space, LOSS, 0, 5)
    for trial in early.trials:
        late.record(trial)
    for epoch in (1, 3, 5):
        expected = [
            min(r.metrics["loss"] for r in t.reports[:epoch]) if t.epochs >= epoch else math.nan for t in early.trials
        ]
        np.testing.assert_array_equal(early.costs_at(epoch), expected)
        np.testing.assert_array_equal(late.costs_at(epoch), expected)
    with pytest.raises(ValueError, match="read-only"):
        early.costs_at(1)[0] = 0.0


def test_a_trial_that_diverged_has_no_cost_there_but_has_one_before():
    history = history_of([("DIVERGED", [1.0, 0.5, math.nan]), ("DONE", [2.0])])
    assert history.costs_at(2).tolist()[0] == 0.5
    assert history.costs_at(3).tolist()[0] == math.inf


@pytest.mark.parametrize("make", [tn.GP, lambda: tn.TPE(start=8)], ids=["gp", "tpe"])
def test_searchers_learn_from_trials_of_which_none_is_complete(make):
    """24 trials paused after one epoch, of which 6 went on to the third: the next ones start near the best of them."""
    curves, xs = [], np.random.default_rng(0).permutation(24) / 24
    best = set(np.argsort(np.abs(xs - 0.7))[:6].tolist())
    for number, x in enumerate(xs):
        curves.append(("PAUSED", [(1 + abs(x - 0.7)) / e for e in range(1, 4 if number in best else 2)]))
    history = tn.types.History(tn.SearchSpace(x=tn.Float(0, 1)), LOSS, 0, 9)
    for number, trial in enumerate(history_of(curves).trials):
        moved = tn.Trial(number, {"x": float(xs[number])})
        history.record(with_status(with_reports(moved, trial.reports, LOSS), "PAUSED"))
    drawn = [make().suggest(history.space, history, stream(i))["x"] for i in range(12)]
    assert np.median(np.abs(np.array(drawn) - 0.7)) < 0.1
