"""Limits as searchers see them: what is within comes first, and where it is has to be learned."""

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.gaussian_processes import some_processes
from tests.helpers.searching import ask_all, cube
from tuneflow.history.objective import Limit, Objective
from tuneflow.history.pareto import breaches, ranking
from tuneflow.search.gp.feasibility import Bound, FeasibleImprovement
from tuneflow.search.gp.hypervolume import HypervolumeImprovement
from tuneflow.search.gp.targets import bound_target, breach_targets
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream

SEARCHERS = {
    "gp": tn.GP,
    "tpe": tn.TPE,
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(8, 4),
    "nsga2": lambda: tn.NSGA2(8),
}
every = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS.keys())
SIZE = (Limit("size", most=0.5),)


def searched(make, space, measure, trials, limits, goals=("loss",), seed=0, fresh=False):
    """The history after so many trials of what `measure` gives; None is a failure."""
    history = tn.types.History(space, Objective(tuple((goal, False) for goal in goals), "last", limits), seed)
    searcher = make()
    for number in range(trials):
        config = proposed(make() if fresh else searcher, space, history, stream(seed, "search", number))
        metrics = measure(config)
        history.record(tn.Trial(number, config, "FAILED" if metrics is None else "DONE", metrics=metrics or {}))
    return history


def bowl(config):
    """The least loss is at 0.3, the least within the limit on the sum at 2/3: 0.4033 in three dimensions."""
    x = np.array(list(config.values()))
    return {"loss": float(((x - 0.3) ** 2).sum()), "sum": float(x.sum())}


def larger_is_better(config):
    return {"loss": -config["x0"], "size": config["x0"], "other": 1 - config["x0"]}


# Ranking.


def test_ranking_puts_what_is_within_first_and_then_the_nearest():
    costs = np.array([1.0, 0.0, 3.0, -1.0, 2.0, np.inf])
    beyond = np.array([0.0, 0.5, 0.0, 0.1, np.inf, 0.0])
    assert ranking(costs, beyond=beyond).tolist() == [0, 2, 3, 1, 4, 5]
    assert ranking(costs, beyond=np.zeros(6)).tolist() == ranking(costs).tolist()
    two = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0], [1.0, 0.5]])
    assert ranking(two, beyond=np.array([0.0, 0.2, 0.0, 0.0])).tolist() == [3, 0, 2, 1]


def test_breaches_are_those_by_which_the_history_orders():
    limits = (Limit("size", 0.2, 0.5), Limit("other", most=0.7))
    history = searched(tn.Random, cube(1), larger_is_better, 20, limits)
    history.record(tn.Trial(20, {"x0": 0.5}, "FAILED"))
    history.record(tn.Trial(21, {"x0": 0.5}))
    found = breaches(history)
    assert found[:20] == pytest.approx([history.rank(trial)[0] for trial in history.trials[:20]])
    assert np.isinf(found[20])
    assert np.isnan(found[21])
    assert (found[:20] == 0).sum() == sum(history.within(trial) for trial in history.trials) > 0


# Every searcher.


@every
def test_what_is_beyond_the_limits_leads_nobody(make):
    """The best losses are all beyond the limit: those who heed it come back, others go there."""
    places = [
        np.median([trial.config["x0"] for trial in searched(make, cube(2), larger_is_better, 30, limits).trials[-12:]])
        for limits in (SIZE, ())
    ]
    assert 0.25 < places[0] < 0.65
    assert places[1] > 0.65


@every
@pytest.mark.parametrize("goals", [("loss",), ("loss", "other")], ids=["one", "two"])
def test_fresh_searcher_proposes_the_same_under_limits(make, goals):
    def measure(config):
        return larger_is_better(config) if config["x1"] < 0.9 else None

    kept, fresh = (searched(make, cube(2), measure, 14, SIZE, goals, fresh=fresh) for fresh in (False, True))
    assert [trial.config for trial in kept.trials] == [trial.config for trial in fresh.trials]


@every
def test_nothing_within_and_nothing_but_failures_can_be_searched(make):
    for measure in (larger_is_better, lambda config: None):
        history = searched(make, cube(2), measure, 14, (Limit("size", most=-1.0),))
        assert len({str(trial.config) for trial in history.trials}) == 14


# GP.


def test_gp_finds_the_limited_optimum():
    limits = (Limit("sum", least=2.0),)
    own, drawn = (searched(make, cube(3), bowl, 25, limits).best.metrics["loss"] for make in (tn.GP, tn.Random))
    assert 0.4033 < own < 0.42
    assert own < drawn - 0.02


def test_gp_finds_what_is_within_where_it_is_rare():
    """A ball that random search meets once in 270 trials."""

    def measure(config):
        x = np.array(list(config.values()))
        return {"loss": x[0], "away": float(np.linalg.norm(x - [0.8, 0.7, 0.2]))}

    history = searched(tn.GP, cube(3), measure, 25, (Limit("away", most=0.096),))
    assert not any(history.within(trial) for trial in history.trials[:10])
    assert sum(history.within(trial) for trial in history.trials) > 2


def test_gp_finds_a_front_within_limits():
    def measure(config):
        x, y = config.values()
        return {"f": x + y, "g": 1 - x + y, "size": y}

    history = searched(tn.GP, cube(2), measure, 19, (Limit("size", 0.4, 0.6),), ("f", "g"))
    assert all(0.4 <= trial.config["x1"] <= 0.6 for trial in history.front)
    assert np.ptp([trial.config["x0"] for trial in history.front]) > 0.7
    assert np.median([trial.config["x1"] for trial in history.front]) < 0.45


def test_gp_keeps_workers_apart_under_limits():
    history = searched(tn.GP, cube(2), bowl, 12, (Limit("sum", least=1.2),))
    configs = ask_all(tn.GP(), cube(2), history, 5)
    assert len({str(config) for config in configs}) == 5


def test_ranked_puts_what_is_beyond_the_limits_last():
    space = cube(1)
    history = searched(tn.GP, space, larger_is_better, 15, SIZE)
    ranked = tn.GP().ranked(space, history)
    within = [history.within(history.trials[number]) for number in ranked]
    assert within == sorted(within, reverse=True)
    assert 0 < sum(within) < len(within)


# The model.


def some_gain(rng):
    first, second = some_processes(rng, 2), some_processes(rng, 2)
    bounds = [Bound([own[place] for own in second], most) for place, most in ((0, 0.2), (1, -0.5))]
    return FeasibleImprovement(HypervolumeImprovement(first), bounds)


def test_slopes_of_a_limited_gain_are_those_of_finite_differences():
    rng = np.random.default_rng(4)
    gain, points = some_gain(rng), rng.random((4, 3))
    value, slopes = gain.slopes(points)
    assert np.allclose(value, gain(points))
    for place in range(3):
        step = np.zeros(3)
        step[place] = 1e-6
        assert np.allclose(slopes[:, place], (gain(points + step) - gain(points - step)) / 2e-6, rtol=1e-4, atol=1e-5)


def test_probability_is_that_of_draws():
    rng = np.random.default_rng(5)
    gain, points = some_gain(rng), rng.random((3, 3))
    wanted = gain.gain(points)
    for end in gain.bounds:
        shares = []
        for process in end.processes:
            mean, variance = process.predict(points)
            shares.append((mean + np.sqrt(variance) * rng.standard_normal((40_000, 3)) <= end.most).mean(0))
        wanted = wanted + np.log(np.mean(shares, axis=0))
    assert np.allclose(gain(points), wanted, atol=0.1)


@pytest.mark.parametrize("found", [[-1.0, 0.0, 2.0, 900.0, np.inf], [-3.0, -1.0, np.inf], [0.0], [np.inf, np.inf]])
def test_bound_parts_what_is_within_from_what_is_beyond(found):
    found = np.array(found)
    values = breach_targets(found, np.full(len(found), np.nan)).values
    assert np.isfinite(values).all()
    assert ((values <= bound_target(found) + 1e-12) == (found <= 0)).all()
    assert np.array_equal(np.argsort(values, kind="stable"), np.argsort(found, kind="stable"))
