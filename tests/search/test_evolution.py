"""Regularized evolution, NSGA-II, and the fronts that they rank by."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tuneflow as tn
from tests.helpers import space_strategies as some
from tests.helpers.searching import ask_all, bowl, cube, history_of, searched
from tests.helpers.space_strategies import laws
from tuneflow.history.pareto import crowding, fronts, ranking
from tuneflow.search.evolution import cmaes, nsga2
from tuneflow.search.evolution.mutation import changed, crossed
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Coordinates


def two_bowls(config):
    x = np.array(list(config.values()))
    return float(((x - 0.2) ** 2).sum()), float(((x - 0.6) ** 2).sum())


def cells():
    """An architecture: operations on six edges, and the width of each layer."""
    operations = ["none", "skip", "conv1", "conv3", "pool"]
    edges = {f"edge{i}": tn.Choice(operations) for i in range(6)}
    return tn.SearchSpace(**edges, width=tn.Int(8, 64, log=True), depth=tn.Choice([1, 2, 4], ordered=True))


def cell_cost(config):
    wanted = ["conv3", "conv3", "skip", "conv1", "pool", "conv3"]
    wrong = sum(config[f"edge{i}"] != operation for i, operation in enumerate(wanted))
    return wrong + abs(config["width"] - 40) / 20 + (config["depth"] != 4)


def branches():
    return tn.SearchSpace(
        kind=tn.Choice({"a": tn.SearchSpace(p=tn.Float(0, 1), q=tn.Int(0, 9)), "b": tn.SearchSpace(r=tn.Float(0, 1))}),
        n=tn.Int(1, 64, log=True),
    )


MAKERS = {"evolution": lambda: tn.Evolution(8, 3), "nsga2": lambda: tn.NSGA2(8)}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


# Fronts.


def beats(one, other):
    return (one <= other).all() and (one < other).any()


@laws
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25))
def test_fronts_peel_off_what_nothing_beats(rows):
    costs = np.array(rows, dtype=float)
    left = set(range(len(costs)))
    for front in fronts(costs):
        assert front.tolist() == [i for i in sorted(left) if not any(beats(costs[j], costs[i]) for j in left)]
        left -= set(front.tolist())
    assert left == set()


def test_crowding_of_a_known_front():
    costs = np.array([[0.0, 4.0], [1.0, 2.0], [2.0, 1.0], [4.0, 0.0]])
    assert crowding(costs).tolist() == [np.inf, 2 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
    assert crowding(np.ones((3, 2))).tolist() == [0, 0, 0]


def test_ranking_goes_by_fronts_and_puts_failures_last():
    costs = np.array([[2.0, 2.0], [np.inf, np.inf], [0.0, 1.0], [1.0, 0.0], [0.4, 0.7], [np.inf, 0.0]])
    assert ranking(costs).tolist() == [2, 3, 4, 0, 1, 5]
    assert ranking(costs, enough=1)[:3].tolist() == [2, 3, 4]
    assert ranking(np.array([3.0, 1.0, np.inf, 1.0])).tolist() == [1, 3, 0, 2]


# Variation.


@laws
@given(some.points(), some.seeds)
def test_changes_and_mixtures_are_in_the_space(point, seed):
    space, unit = point
    axes, rng = Coordinates(space), stream(seed)
    one = space.to_unit(space.from_unit(unit))
    other = space.to_unit(space.sample(rng))
    able = np.flatnonzero(~np.isnan(one) & (axes.levels > 1))
    for child in (changed(axes, one, rng.permutation(able)[:1], rng), crossed(axes, one, other, rng)):
        config = axes.space.from_unit(child)
        assert space.cast(config) == config
        assert np.array_equal(np.isnan(child), np.isnan(space.to_unit(config)))


@pytest.mark.parametrize("value", [0, 1, 2, 9, 10])
def test_a_change_is_one_to_every_value(value):
    """Whole numbers, few or many, at the ends too: never the same value again, and each neighbor now and then."""
    space = tn.SearchSpace(
        n=tn.Int(0, 10), two=tn.Int(0, 1), kind=tn.Choice(["a", "b", "c"]), m=tn.Int(1, 99, log=True)
    )
    axes, start = Coordinates(space), {"n": value, "two": value % 2, "kind": "b", "m": value + 1}
    unit, seen = space.to_unit(start), [set() for _ in range(4)]
    for number in range(200):
        for place in range(4):
            after = axes.space.from_unit(changed(axes, unit, np.array([place]), stream(number, str(place))))
            different = [name for name in start if after[name] != start[name]]
            assert different == [list(start)[place]]
            seen[place].add(after[different[0]])
    assert {n for n in (value - 1, value + 1) if 0 <= n <= 10} <= seen[0]
    assert seen[1:3] == [{1 - value % 2}, {"a", "c"}]


def test_a_child_has_every_value_from_one_of_two():
    space = tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(0, 9), k=tn.Choice(["a", "b"]))
    one, other = ({"x": 0.1, "n": 3, "k": "a"}, {"x": 0.9, "n": 7, "k": "b"})
    units, axes = [space.to_unit(config) for config in (one, other)], Coordinates(space)
    children = [axes.space.from_unit(crossed(axes, *units, stream(i))) for i in range(100)]
    assert len({json.dumps(child) for child in children}) == 8
    assert {round(child["x"], 9) for child in children} == {0.1, 0.9}


# The searchers.


@pytest.mark.parametrize(("module", "make"), [(cmaes, tn.CMAES), (nsga2, lambda: tn.NSGA2(4))], ids=["cmaes", "nsga2"])
def test_what_a_searcher_keeps_is_made_once(monkeypatch, module, make):
    """Made anew for every trial, it would replay all that have ended, at a cost of the square of their number."""
    made = []
    monkeypatch.setattr(module, "Coordinates", lambda space: made.append(space) or Coordinates(space))
    searched(make(), cube(2), bowl, 30)
    assert len(made) == 1


@both
@pytest.mark.parametrize(("dimensions", "trials"), [(5, 150), (30, 400)])
def test_comes_nearer_than_random_search(make, dimensions, trials):
    regrets = lambda make: [bowl(searched(make(), cube(dimensions), bowl, trials, s).best.config) for s in range(3)]
    assert np.mean(regrets(make)) < 0.5 * np.mean(regrets(tn.Random))


@both
def test_finds_an_architecture(make):
    costs = lambda make: [cell_cost(searched(make(), cells(), cell_cost, 200, s).best.config) for s in range(3)]
    assert np.mean(costs(make)) < 0.5 * np.mean(costs(tn.Random))


@both
def test_fresh_searcher_decides_as_a_kept_one_and_another_seed_differently(make):
    cost = lambda config: config["n"] + len(str(config))
    kept = [trial.config for trial in searched(make(), branches(), cost, 40).trials]
    fresh = [trial.config for trial in searched(None, branches(), cost, 40, fresh=make).trials]
    other = [trial.config for trial in searched(make(), branches(), cost, 40, seed=1).trials]
    assert kept == fresh != other


@both
def test_history_whose_trials_end_in_another_order_is_decided_alike_by_fresh_and_kept(make):
    space, kept = cube(3), make()
    history = history_of(space)
    for round_ in range(5):
        configs = ask_all(kept, space, history, 6, seed=round_)
        for number in reversed(range(len(history) - 6, len(history))):
            config = configs[number - len(history) + 6]
            history.record(tn.Trial(number, config, "DONE", metrics={"loss": bowl(config)}))
        assert kept.suggest(space, history, stream(7)) == make().suggest(space, history, stream(7))


@both
def test_workers_that_ask_at_once_get_different_trials(make):
    space, searcher = cube(3), make()
    history = searched(searcher, space, bowl, 20)
    assert len({str(config) for config in ask_all(searcher, space, history, 24)}) == 24


@both
@pytest.mark.parametrize("status", ["FAILED", "DIVERGED", "SCREENED"])
def test_failures_are_no_parents_where_there_is_another(make, status):
    space, searcher = cube(2), make()
    history = history_of(space)
    for number in range(100):
        config = searcher.suggest(space, history, stream(0, "search", number))
        failed = config["x0"] > 0.4
        trial = tn.Trial(number, config, status) if failed else tn.Trial(number, config, "DONE", metrics={"loss": 1.0})
        history.record(trial)
    assert sum(trial.config["x0"] > 0.4 for trial in history.trials[50:]) < 20


@both
def test_goes_on_while_everything_fails_or_is_equal(make):
    space = cube(2)
    history = history_of(space)
    for number in range(30):
        history.record(tn.Trial(number, make().suggest(space, history, stream(number)), "FAILED"))
    equal = searched(make(), space, lambda config: 1.0, 30)
    for trials in (history.trials, equal.trials):
        assert len({str(trial.config) for trial in trials}) == 30


@both
def test_old_trials_die_only_in_regularized_evolution(make):
    """One trial is best by luck; after many others only NSGA-II still has it as a parent."""
    space = tn.SearchSpace(**{f"kind{i}": tn.Choice(list("abcdefgh")) for i in range(8)})
    history = history_of(space)
    lucky = {f"kind{i}": "h" for i in range(8)}
    for number in range(60):
        config, loss = (lucky, -1.0) if number == 0 else ({f"kind{i}": "abcd"[(number + i) % 4] for i in range(8)}, 1.0)
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": loss}))
    children = [list(make().suggest(space, history, stream(i)).values()) for i in range(60)]
    kept = sum(child.count("h") > 2 for child in children)
    assert kept == 0 if isinstance(make(), tn.Evolution) else kept > 10


@both
def test_finite_space_is_seen_through_without_stopping(make):
    space = tn.SearchSpace(a=tn.Int(0, 4), b=tn.Choice(["x", "y"]))
    history = searched(make(), space, lambda config: config["a"] + (config["b"] == "x"), 40)
    assert history.best.config == {"a": 0, "b": "y"}


def test_evolution_does_not_repeat_itself_while_there_is_something_new():
    space = tn.SearchSpace(a=tn.Int(0, 9), b=tn.Int(0, 9))
    history = searched(tn.Evolution(8, 3), space, lambda config: config["a"] + config["b"], 60)
    children = [str(trial.config) for trial in history.trials[8:]]
    assert len(set(children)) == len(children)


def hypervolume(points, corner):
    """The area that a front of two objectives dominates below `corner`."""
    area, last = 0.0, corner[1]
    for f, g in sorted(set(points)):
        if f < corner[0] and g < last:
            area += (corner[0] - f) * (last - g)
            last = g
    return area


@pytest.mark.parametrize("dimensions", [2, 8])
def test_nsga2_brings_the_whole_front_forward(dimensions):
    goals, corner = ("f", "g"), (0.16 * dimensions, 0.16 * dimensions)
    steps = np.linspace(0, 1, 200)
    ideal = hypervolume([(dimensions * (0.4 * s) ** 2, dimensions * (0.4 - 0.4 * s) ** 2) for s in steps], corner)
    shares = []
    for seed in range(2):
        history = searched(tn.NSGA2(16), cube(dimensions), two_bowls, 300, seed, goals)
        shares.append(hypervolume([two_bowls(trial.config) for trial in history.front], corner) / ideal)
        ends = np.array([two_bowls(trial.config) for trial in history.front]).min(0)
        assert ends.max() < 0.05 * dimensions
    assert min(shares) > {2: 0.95, 8: 0.8}[dimensions]


@pytest.mark.parametrize("make", [tn.CMAES, MAKERS["evolution"], tn.TPE])
def test_others_too_take_several_objectives(make):
    space, goals = cube(4), ("f", "g")
    late = lambda make: searched(make(), space, two_bowls, 120, 0, goals).trials[80:]
    mean = lambda make: np.mean([two_bowls(trial.config) for trial in late(make)])
    assert mean(make) < 0.75 * mean(tn.Random)


def test_resumed_study_goes_on_as_an_uninterrupted_one(tmp_path):
    space = lambda: tn.SearchSpace(x=tn.Float(-5, 5), n=tn.Int(1, 9))
    cost = lambda x, n: (x - 1) ** 2 + n
    for make in (lambda: tn.TPE(start=4), tn.CMAES, lambda: tn.Evolution(4, 2), lambda: tn.NSGA2(4)):
        name = type(make()).__name__
        for folder, ends in (("whole", [20]), ("parts", [12, 17, 20])):
            for trials in ends:
                tn.minimize(cost, space(), trials=trials, searcher=make(), folder=tmp_path / folder / name, seed=3)
        whole, parts = ([t.config for t in tn.open(tmp_path / f / name).trials] for f in ("whole", "parts"))
        assert whole == parts
        assert len(whole) == 20


@pytest.mark.parametrize("make", [*MAKERS.values(), tn.CMAES, tn.TPE])
def test_kept_searcher_serves_another_history_of_the_same_space(make):
    space, kept = cube(3), make()
    searched(kept, space, bowl, 30)
    other = searched(make(), space, lambda config: -bowl(config), 30, seed=5)
    assert kept.suggest(space, other, stream(1)) == make().suggest(space, other, stream(1))


def test_refuses_populations_that_cannot_be():
    with pytest.raises(ValueError, match="Evolution: population needs to be a whole number >= 2, got 1"):
        tn.Evolution(population=1)
    with pytest.raises(ValueError, match="Evolution: sample needs to be from 1 to population=4, got 5"):
        tn.Evolution(population=4, sample=5)
    with pytest.raises(ValueError, match=r"NSGA2: population needs to be a whole number >= 2, got 3\.5"):
        tn.NSGA2(population=3.5)
