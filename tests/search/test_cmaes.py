"""CMA-ES: the oracle's trajectory, the margin, and what a study brings that a textbook does not."""

import math

import cmaes
import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.searching import ask_all, cube, history_of, searched
from tuneflow.search.evolution.cma_distribution import CMADistribution
from tuneflow.search.evolution.cmaes import EvolvedDistribution
from tuneflow.seeds import stream


def learned(space, history):
    """The distribution that any CMAES() has after these trials."""
    distribution = EvolvedDistribution(space, history, 0.2)
    distribution.catch_up(history)
    return distribution


def slope(config):
    return sum((i + 1) * (value - 0.3) ** 2 for i, value in enumerate(config.values()))


@pytest.mark.parametrize("dimensions", [1, 2, 10, 30])
def test_distribution_moves_as_that_of_cmaes_given_the_same_samples(dimensions):
    mean = np.random.default_rng(dimensions).random(dimensions)
    oracle, ours = cmaes.CMA(mean, 0.3, seed=1), CMADistribution(mean, 0.3)
    assert ours.size == oracle.population_size
    for _ in range(30):
        points = sorted((oracle.ask() for _ in range(ours.size)), key=lambda x: slope(dict(enumerate(x))))
        oracle.tell([(x, float(rank)) for rank, x in enumerate(points)])
        ours.learn(np.array(points))
        np.testing.assert_allclose(ours.mean, oracle.mean, rtol=1e-9, atol=1e-12)
        assert ours.sigma == pytest.approx(oracle._sigma, rel=1e-9)  # cmaes shows its mean only
        np.testing.assert_allclose(ours.C, oracle._C, rtol=1e-7, atol=1e-12)  # cmaes shows its mean only


def test_study_moves_the_distribution_as_cmaes_does():
    """The searcher's own replay, given the trials of the oracle."""
    space = cube(4)
    oracle = cmaes.CMA(np.full(4, 0.5), 0.2, bounds=np.array([[0, 1]] * 4), seed=3)
    history = history_of(space)
    for _ in range(12):
        told = []
        for _ in range(oracle.population_size):
            config = space.from_unit(oracle.ask())
            told.append((space.to_unit(config), slope(config)))
            history.record(tn.Trial(len(history), config, "DONE", metrics={"loss": slope(config)}))
        oracle.tell(told)
    state = learned(space, history).state
    np.testing.assert_allclose(state.mean, oracle.mean, rtol=1e-9)
    assert state.sigma == pytest.approx(oracle._sigma, rel=1e-9)  # cmaes shows its mean only


def test_one_distant_point_moves_the_mean_by_a_step_and_not_by_its_distance():
    state = CMADistribution(np.full(2, 0.5), 1e-3)
    points = state.draw(stream(0), state.size)
    points[0] = 1.0
    state.learn(points)
    assert np.abs(state.mean - 0.5).max() < 1e-3 * (math.sqrt(2) + 3)


@pytest.mark.parametrize("dimensions", [1, 5, 30])
def test_comes_near_the_optimum(dimensions):
    history = searched(tn.CMAES(), cube(dimensions), slope, 60 + 40 * dimensions)
    assert slope(history.best.config) < 1e-3 * slope(dict.fromkeys(range(dimensions), 1.0))


def test_whole_numbers_keep_their_neighbors_within_reach():
    """A distribution that has settled on one value still tries the others: as often as the margin says."""
    space = tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(0, 9), edge=tn.Int(0, 3), step=tn.Float(0, 1, step=0.1))
    cost = lambda c: c["x"] ** 2 + abs(c["n"] - 4) + c["edge"] + 10 * abs(c["step"] - 0.3)
    searcher = tn.CMAES()
    history = searched(searcher, space, cost, 400)
    assert (history.best.config["n"], history.best.config["edge"], history.best.config["step"]) == (4, 0, 0.3)
    draws = [searcher.suggest(space, history, stream(1, i)) for i in range(4_000)]
    alpha = 1 / (learned(space, history).state.size * 4)
    for name, best in (("n", 4), ("edge", 0), ("step", 0.3)):
        others = sum(draw[name] != best for draw in draws) / len(draws)
        assert alpha / 2 < others < 0.7


def test_mean_crosses_whole_numbers_that_it_had_settled_beside():
    """Without a margin the first generations would fix n far from its best value."""
    space = tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(0, 1000), m=tn.Choice([1, 2, 4, 8], ordered=True))
    history = searched(tn.CMAES(), space, lambda c: (c["x"] - 0.5) ** 2 + abs(c["n"] - 990) / 1000 + (c["m"] != 8), 300)
    assert abs(history.best.config["n"] - 990) < 10
    assert history.best.config["m"] == 8


def test_labels_become_likelier_and_never_impossible():
    space = tn.SearchSpace(x=tn.Float(0, 1), kind=tn.Choice(["a", "b", "c"]))
    history = searched(tn.CMAES(), space, lambda c: c["x"] + (c["kind"] != "b"), 200)
    (chances,) = learned(space, history).chances
    assert chances.sum() == pytest.approx(1)
    assert chances[1] > 0.6
    assert chances.min() > 0.01
    assert history.best.config["kind"] == "b"


def test_parameters_that_are_not_active_keep_their_width():
    """What decides nothing is drawn as widely as at first, after many generations."""
    space = tn.SearchSpace(
        x=tn.Float(0, 1),
        kind=tn.Choice({"with": tn.SearchSpace(q=tn.Float(0, 1)), "without": None}, prior=[0.05, 0.95]),
    )
    history = searched(tn.CMAES(), space, lambda c: (c["x"] - 0.5) ** 2 + 10 * (c["kind"] != "without"), 150)
    state = learned(space, history).state
    x, q = state.sigma * np.sqrt(np.diag(state.C))
    assert q > 20 * x


@pytest.mark.parametrize("status", ["FAILED", "DIVERGED"])
def test_failures_rank_last(status):
    space = cube(2)
    kept, history = tn.CMAES(), history_of(space)
    for number in range(120):
        config = kept.suggest(space, history, stream(0, "search", number))
        if config["x0"] > 0.4:
            history.record(tn.Trial(number, config, status))
        else:
            history.record(tn.Trial(number, config, "DONE", metrics={"loss": 1.0}))
    assert learned(space, history).state.mean[0] < 0.4


def test_many_askers_get_draws_of_the_same_distribution_and_stragglers_are_used():
    space = cube(3)
    searcher, history = tn.CMAES(), history_of(space)
    configs = ask_all(searcher, space, history, 40)
    assert len({str(c) for c in configs}) == 40
    for number in range(39, -1, -1):  # they end in another order
        history.record(tn.Trial(number, configs[number], "DONE", metrics={"loss": slope(configs[number])}))
    state = learned(space, history).state
    assert state.generation == 40 // state.size
    fresh = tn.CMAES()
    assert fresh.suggest(space, history, stream(1)) == searcher.suggest(space, history, stream(1))


def test_begins_at_the_priors_and_as_wide():
    prior = tn.Normal(1e-2, sd=0.3, uniform=0.0)
    space = tn.SearchSpace(lr=tn.Float(1e-5, 1.0, log=True, prior=prior), x=tn.Float(0, 1))
    draws = [tn.CMAES().suggest(space, history_of(space), stream(i)) for i in range(300)]
    rates = np.log10([draw["lr"] for draw in draws])
    assert rates.mean() == pytest.approx(-2, abs=0.05)
    assert rates.std() < 0.3


def test_begins_again_elsewhere_where_it_has_converged():
    history = searched(tn.CMAES(), cube(2), slope, 700)
    assert learned(cube(2), history).state.size > CMADistribution(np.zeros(2), 1.0).size


def test_equal_scores_change_nothing_for_good():
    history = searched(tn.CMAES(), cube(3), lambda c: 1.0, 300)
    assert 1e-4 < learned(cube(3), history).state.sigma < 10


def test_refuses_what_it_cannot_search():
    with pytest.raises(ValueError, match=r"needs a number to search, the space has kind, one; use tn\.TPE\(\)"):
        tn.CMAES().check(tn.SearchSpace(kind=tn.Choice(["a", "b"]), one=tn.Int(1, 1)))
    with pytest.raises(ValueError, match="sigma needs to be a share of the range"):
        tn.CMAES(sigma=0)
