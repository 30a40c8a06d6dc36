"""Searchers on orders: kernels that know which orders are alike, and searches that find the best one."""

import itertools
import math

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.searching import history_of, searched
from tuneflow.search.evolution.mutation import changed, crossed
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.gp.kernel import apart
from tuneflow.search.mallows import Mallows, turned
from tuneflow.search.parzen import Parzen
from tuneflow.search.tpe import widths
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.order_codes import orders_at, units_of

ALL = np.array(list(itertools.permutations(range(4))))
MIXED = {"o": tn.Permutation(list("abcde")), "k": tn.Choice(["x", "y"]), "r": tn.Float(0, 1)}


def turns(one, other):
    """Number of pairs of items that stand the other way round; a reference by counting."""
    pairs = itertools.combinations(range(len(one)), 2)
    places = [list(order).index for order in (one, other)]
    return sum((places[0](i) < places[0](j)) != (places[1](i) < places[1](j)) for i, j in pairs)


def wrong_pairs(config):
    """Number of pairs that stand the other way round than in c, a, e, b, d."""
    return turns([ord(item) - 97 for item in config["o"]], [2, 0, 4, 1, 3])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_mallows_is_a_distribution_of_the_turned_pairs_with_this_mean(share):
    mallows, center = Mallows(4, share), np.array([2, 0, 3, 1])
    logs = mallows.log_density(ALL, center[None])[:, 0]
    counts = np.array([turns(order, center) for order in ALL])
    assert np.exp(logs).sum() == pytest.approx(1)
    assert (np.exp(logs) @ counts) / 6 == pytest.approx(share, abs=1e-4)
    assert all(len(set(np.round(logs[counts == count], 9))) == 1 for count in range(7))


def test_mallows_draws_from_its_density():
    mallows, center, rng = Mallows(4, 0.2), np.array([2, 0, 3, 1]), np.random.default_rng(0)
    drawn = mallows.draw(np.repeat(center[None], 6000, axis=0), rng.random((6000, 3)))
    expected = 6000 * np.exp(mallows.log_density(ALL, center[None])[:, 0])
    counts = np.array([(drawn == order).all(1).sum() for order in ALL])
    assert counts.sum() == 6000
    assert ((counts - expected) ** 2 / expected).sum() < 49.7  # chi-squared of 23: one in a thousand seeds


def test_orders_of_one_kind_turn_no_pairs_and_all_orders_half_of_them():
    assert turned(ALL[:1]) == 0
    assert turned(ALL) == pytest.approx(0.5)


def test_two_orders_are_as_far_apart_as_the_shares_of_pairs_and_positions_they_differ_in():
    layout = FeatureMap(tn.SearchSpace(o=tn.Permutation(list(range(4))), r=tn.Float(0, 1)))
    units = np.column_stack([units_of(ALL), np.full(len(ALL), 0.5)])
    squares = apart(layout.features(units), layout.owner, layout.scales).reshape(3, 24, 24)
    pairs = np.array([[turns(one, other) for other in ALL] for one in ALL]) / 6
    items = (ALL[:, None] != ALL).mean(2)
    np.testing.assert_allclose(squares[0], pairs, atol=1e-9)
    np.testing.assert_allclose(squares[1], items, atol=1e-9)
    assert (layout.scales, layout.owner.tolist()) == (3, [0] * 6 + [1] * 16 + [2])
    assert layout.column.tolist() == [0, 0, 0, 22]
    assert layout.smooth.tolist() == [False, False, False, True]


def test_moves_of_an_order_are_its_swaps_and_moves_and_of_many_items_some():
    layout = FeatureMap(tn.SearchSpace(o=tn.Permutation(list(range(4))), k=tn.Choice(["x", "y"])))
    rows = layout.settled(layout.moves(np.array([0.125, 0.5, 0.25, 0.25])))
    assert len({row.tobytes() for row in rows}) == 6 + 6 + 2
    long = FeatureMap(tn.SearchSpace(o=tn.Permutation(list(range(60)))))
    assert 300 < len(long.moves(np.full(59, 0.5))) <= 400


def test_inactive_orders_are_alike_and_keep_their_place():
    space = tn.SearchSpace(kind=tn.Choice({"a": tn.SearchSpace(o=tn.Permutation([1, 2, 3])), "b": 1}))
    layout, unit = FeatureMap(space), space.to_unit({"kind": "b"})
    assert np.isfinite(layout.features(unit[None])).all()
    assert len(layout.moves(unit)) == 2
    child = changed(layout, unit, np.array([0]), np.random.default_rng(0))
    assert sorted(space.from_unit(child)["kind"]["a"]["o"]) == [1, 2, 3]


def test_a_child_has_the_whole_order_of_one_parent():
    space = tn.SearchSpace(**MIXED)
    axes, rng = Coordinates(space), np.random.default_rng(0)
    parents = [space.to_unit(space.sample(rng)) for _ in range(2)]
    orders = [space.from_unit(parent)["o"] for parent in parents]
    children = [space.from_unit(crossed(axes, *parents, rng))["o"] for _ in range(20)]
    assert all(child in orders for child in children)
    assert all(order in children for order in orders)


def test_density_of_good_orders_is_high_near_them_and_is_what_is_drawn():
    space = tn.SearchSpace(**MIXED)
    axes, rng = Coordinates(space), np.random.default_rng(0)
    good = np.array([space.to_unit({"o": list("abcde"), "k": "x", "r": 0.5})] * 5)
    parzen = Parzen(axes, good, np.ones(5), widths(axes, good), informed=True)
    near, far = ({"o": list(order), "k": "x", "r": 0.5} for order in ("abced", "edcba"))
    densities = parzen.log_density(np.array([space.to_unit(near), space.to_unit(far)]))
    assert densities[0] > densities[1] + 1
    drawn = orders_at(parzen.draw(400, rng)[:, :4])
    assert turned(drawn) < 0.3


SEARCHERS = {
    "GP": (tn.GP, 22),
    "TPE": (tn.TPE, 45),
    "Evolution": (lambda: tn.Evolution(population=8, sample=4), 90),
    "NSGA2": (lambda: tn.NSGA2(population=8), 90),
}


@pytest.mark.parametrize(("make", "trials"), SEARCHERS.values(), ids=SEARCHERS)
def test_searchers_come_closer_than_random_draws_to_the_best_order(make, trials):
    space = tn.SearchSpace(o=tn.Permutation(list("abcde")))
    found = [min(searched(make(), space, wrong_pairs, trials, seed).costs) for seed in range(2)]
    drawn = [min(searched(tn.Random(), space, wrong_pairs, trials, seed).costs) for seed in range(2)]
    assert sum(found) <= min(sum(drawn), 1)


@pytest.mark.parametrize("make", [tn.Random, tn.Sobol, tn.CMAES, tn.GP, tn.TPE, tn.LeCun, tn.Evolution])
def test_searchers_take_orders_beside_other_parameters(make):
    space = tn.SearchSpace(a=tn.Permutation(list(range(20))), n=tn.Int(1, 3), one=tn.Permutation([1]), **MIXED)
    history = searched(make(), space, lambda config: config["r"] + config["a"][0], 12)
    assert all(space.cast(trial.config) == trial.config for trial in history.trials)


def test_orders_of_an_earlier_study_are_matched_by_their_items():
    def cost(config):
        return -2.0 * config["o"].index("a") - config["o"].index("b")

    earlier = searched(tn.Random(), tn.SearchSpace(o=tn.Permutation(["a", "b", "c"])), cost, 12)
    space = tn.SearchSpace(o=tn.Permutation({"new": 0, "c": 1, "b": 2, "a": 3}), r=tn.Float(0, 1))
    warm = tn.Warm(earlier)
    warm.check(space)
    first = warm.suggest(space, history_of(space), np.random.default_rng(0))
    assert first["o"] == [*earlier.best.config["o"], "new"]
    other = tn.SearchSpace(o=tn.Permutation(["x", "y"]))
    with pytest.raises(ValueError, match="label that this space lacks"):
        warm.check(other)


def test_grid_and_exhaustive_search_try_every_order_once():
    space = tn.SearchSpace(o=tn.Permutation(["a", "b", "c"]))
    for searcher in (tn.Grid({"o": 6}), tn.Auto()):
        history = history_of(space)
        while (config := searcher.suggest(space, history, np.random.default_rng(0))) is not None:
            history.record(tn.Trial(len(history), config, "DONE", metrics={"loss": 1.0}))
        assert len({tuple(trial.config["o"]) for trial in history.trials}) == len(history) == math.factorial(3)
