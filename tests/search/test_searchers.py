"""Searchers: a decision is a function of (space, history, rng)."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

import tuneflow as tn
from tests.helpers import space_strategies as some
from tests.helpers.global_generators import generators_untouched
from tests.helpers.searching import cube
from tests.helpers.space_strategies import laws
from tuneflow.history.objective import Objective
from tuneflow.seeds import stream


class Climb(tn.Searcher):  # as in the design: a strategy of one's own in seven lines
    def suggest(self, space, history, rng):
        if len(history.finished) < 5:
            return space.sample(rng)
        center = space.to_unit(history.best.config)
        return space.from_unit((center + 0.1 * rng.standard_normal(len(center))).clip(0, 1))


SEARCHERS = {
    "grid": lambda: tn.Grid(3),
    "shuffled": lambda: tn.Grid(3, shuffle=True),
    "random": tn.Random,
    "sobol": tn.Sobol,
    "climb": Climb,
    "tpe": lambda: tn.TPE(start=4),
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(4, 2),
    "nsga2": lambda: tn.NSGA2(4),
}
every_searcher = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS.keys())


def mixed():
    return tn.SearchSpace(
        x=tn.Float(-5, 5),
        n=tn.Int(1, 9),
        kind=tn.Choice({"a": tn.call(dict, lr=tn.Float(1e-4, 1, log=True)), "b": None}),
    )


def loss_of(config):
    return (config["x"] - 1) ** 2 + config["n"]


def propose(searcher, space, numbers, seed=0):
    """What is proposed as trials `numbers`, nothing having been told."""
    history = tn.types.History(space, Objective((("loss", False),)), seed)
    for number in numbers:
        history.number = number
        yield searcher.suggest(space, history, stream(seed, "search", number))


def search(make, space, trials, seed=0, fresh=False):
    """The history after `trials` trials, from one searcher that is kept or from a fresh one for each trial."""
    history, searcher = tn.types.History(space, Objective((("loss", False),)), seed), make()
    for number in range(trials):
        searcher = make() if fresh else searcher
        config = searcher.suggest(space, history, stream(seed, "search", number))
        history.record(tn.Trial(number, space.cast(config), "DONE", metrics={"loss": loss_of(config)}))
    return [trial.config for trial in history.trials]


def same(config):
    return json.dumps(config, sort_keys=True)


# Laws of every searcher.


@every_searcher
def test_fresh_searcher_decides_as_a_kept_one(make):
    assert search(make, mixed(), 20, fresh=True) == search(make, mixed(), 20)


@every_searcher
def test_suggestions_are_plain_and_in_the_space(make):
    space = mixed()
    for config in search(make, space, 20):
        assert json.loads(json.dumps(config)) == space.cast(config)


@every_searcher
def test_searcher_leaves_the_global_generators_alone(make):
    with generators_untouched():
        search(make, mixed(), 10)


@every_searcher
@pytest.mark.parametrize("seed", [-1, 2**40, 10**30])
def test_any_whole_number_is_a_seed(make, seed):
    assert search(make, mixed(), 8, seed) == search(make, mixed(), 8, seed)


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "grid"])
def test_seed_is_obeyed(name):
    make = SEARCHERS[name]
    assert search(make, mixed(), 8, seed=1) != search(make, mixed(), 8, seed=2)


@pytest.mark.parametrize("name", ["shuffled", "random", "sobol"])
def test_suggestion_depends_on_the_number_alone(name):
    kept = list(propose(SEARCHERS[name](), mixed(), range(18)))
    backwards = list(propose(SEARCHERS[name](), mixed(), reversed(range(18))))
    assert backwards[::-1] == kept


OTHER = tn.SearchSpace(n=tn.Int(0, 99), x=tn.Float(0, 1), k=tn.Choice([1, 2]))


@pytest.mark.parametrize("name", ["shuffled", "random", "sobol"])
@pytest.mark.parametrize("second", [(OTHER, 0), (mixed(), 3), (OTHER, 3)], ids=["space", "seed", "both"])
def test_kept_searcher_serves_another_space_or_seed(name, second):
    (space, seed), searcher = second, SEARCHERS[name]()
    list(propose(searcher, mixed() if space is OTHER else space, range(5)))
    assert list(propose(searcher, space, range(5), seed)) == list(propose(SEARCHERS[name](), space, range(5), seed))


@pytest.mark.parametrize("name", ["grid", "random", "sobol", "tpe", "evolution", "nsga2"])
@pytest.mark.parametrize("space", [tn.SearchSpace(), tn.SearchSpace(depth=3)], ids=["empty", "constant"])
def test_space_without_coordinates_has_one_suggestion(name, space):
    searcher = SEARCHERS[name]()
    searcher.check(space)
    assert next(propose(searcher, space, [0])) == space.from_unit([])


def test_climb_of_seven_lines_goes_down():
    space = mixed()
    losses = [loss_of(config) for config in search(Climb, space, 60)]
    assert min(losses[5:]) < min(losses[:5])
    assert np.mean(losses[40:]) < np.mean(losses[:5])


def test_searcher_without_suggest_says_what_is_missing():
    class Idle(tn.Searcher):
        pass

    with pytest.raises(NotImplementedError, match=r"Idle needs a method suggest\(space, history, rng\)"):
        list(propose(Idle(), mixed(), [0]))


def test_repr_shows_settings_and_no_cache():
    grid = tn.Grid({"x": 3}, shuffle=True)
    list(propose(grid, mixed(), [0]))
    assert repr(grid) == "Grid(points={'x': 3}, shuffle=True)"
    assert repr(tn.Random()) == "Random()"


def test_only_a_grid_ends():
    assert tn.Grid().ends
    assert not tn.Random().ends
    assert not tn.Sobol().ends


# Grid.


@laws
@given(some.spaces_of(some.ints() | some.plain_choices, most=3), st.integers(1, 2), st.booleans(), some.seeds)
def test_grid_visits_every_point_once_and_ends(space, points, shuffle, seed):
    total = min(space.grid(points).total, 200)
    visited = [same(config) for config in propose(tn.Grid(points, shuffle), space, range(total), seed)]
    assert len(set(visited)) == total
    if total == space.grid(points).total:
        assert set(visited) == {same(config) for config in space.grid(points)}
        assert list(propose(tn.Grid(points, shuffle), space, [total, total + 1], seed)) == [None, None]


def test_grid_goes_in_the_order_of_the_names_the_last_fastest():
    space = tn.SearchSpace(a=tn.Choice(["x", "y"]), b=tn.Int(0, 2))
    visited = list(propose(tn.Grid(), space, range(7)))
    assert visited == [{"a": a, "b": b} for a, b in itertools.product("xy", [0, 1, 2])] + [None]


def test_shuffled_grid_is_another_order_for_each_seed():
    space = tn.SearchSpace(n=tn.Int(0, 99))
    orders = [[c["n"] for c in propose(tn.Grid(100, shuffle=True), space, range(100), seed)] for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(100)) != order for order in orders)


def test_plain_grid_does_not_read_the_seed():
    assert list(propose(tn.Grid(), mixed(), range(9), seed=1)) == list(propose(tn.Grid(), mixed(), range(9), seed=2))


def test_grid_takes_lists_of_values():
    grid = tn.Grid({"x": [0.5, -1.0], "n": [3], "kind": ["b"]})
    wanted = [{"x": 0.5, "n": 3, "kind": "b"}, {"x": -1.0, "n": 3, "kind": "b"}, None]
    assert list(propose(grid, mixed(), range(3))) == wanted


def test_conditional_grid_trains_no_configuration_twice():
    visited = list(propose(tn.Grid({"x": 1, "n": 2, "lr": 3}), mixed(), range(9)))
    assert [next(iter(config["kind"])) for config in visited[:8]] == ["a", "a", "a", "b"] * 2
    assert len({same(config) for config in visited[:8]}) == 8
    assert visited[8] is None


@pytest.mark.parametrize(("points", "count"), [(100, "1,000,000,000,000"), (101, "1,061,520,150,601")])
def test_grid_of_more_than_a_million_points_is_refused_with_the_count(points, count):
    with pytest.raises(ValueError) as caught:
        tn.Grid(points).check(cube(6))
    assert all(piece in str(caught.value) for piece in [count, f"x0 {points}", "points=", "tn.Random()"])


def test_grid_beyond_every_integer_of_the_machine_is_refused_with_the_count():
    with pytest.raises(ValueError, match=f"{10**40:,} points"):
        tn.Grid(10).check(cube(40))


def test_grid_of_a_million_points_is_allowed():
    tn.Grid(10).check(cube(6))


@pytest.mark.parametrize("points", [{"lrr": 3}, {"x": [99.0]}, {"x": []}, 0])
def test_grid_that_does_not_fit_is_refused_before_the_first_trial(points):
    with pytest.raises(ValueError):
        tn.Grid(points).check(mixed())


# Random.


def test_random_fills_the_cube_evenly():
    units = np.array([list(config.values()) for config in propose(tn.Random(), cube(2), range(4000))])
    counts, *_ = np.histogram2d(*units.T, bins=4, range=[[0, 1], [0, 1]])
    chi2 = ((counts - 250) ** 2 / 250).sum()
    assert 3.1 < chi2 < 39.7  # 15 degrees of freedom: a false alarm once in 1,000


def test_random_never_proposes_twice():
    assert len({same(config) for config in propose(tn.Random(), cube(1), range(500))}) == 500


# Sobol.


@laws
@given(st.integers(0, 8), st.integers(1, 6), some.seeds)
def test_first_powers_of_two_of_sobol_fill_every_interval_once(power, dimensions, seed):
    count = 2**power
    units = np.array([list(c.values()) for c in propose(tn.Sobol(), cube(dimensions), range(count), seed)])
    cells = np.sort(np.floor(units * count), axis=0)
    assert (cells == np.arange(count)[:, None]).all()


@pytest.mark.parametrize("dimensions", [2, 4])
@pytest.mark.parametrize("count", [32, 100, 256])
def test_sobol_fills_the_cube_better_than_random(dimensions, count):
    def unevenness(searcher, seed):
        return qmc.discrepancy([list(c.values()) for c in propose(searcher, cube(dimensions), range(count), seed)])

    worst = max(unevenness(tn.Sobol(), seed) for seed in range(4))
    assert worst < min(unevenness(tn.Random(), seed) for seed in range(4))


def test_sobol_proposes_every_label():
    kinds = [next(iter(config["kind"])) for config in propose(tn.Sobol(), mixed(), range(8))]
    assert kinds.count("a") == kinds.count("b") == 4


def test_sobol_refuses_more_dimensions_than_it_has():
    space = cube(21_202)
    with pytest.raises(ValueError, match=r"at most 21201 parameters, got 21202; use tn.Random\(\)"):
        tn.Sobol().check(space)
    tn.Sobol().check(cube(10))
