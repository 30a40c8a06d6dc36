"""Constraints that tie parameters together: every searcher proposes what is allowed, and searches among it."""

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.searching import history_of, searched
from tuneflow.search.repair import repaired
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Coordinates

TRIALS = 6
DIGITS = ["1", "2", "3", "4"]
TIED = {
    "equal": (lambda c: c["x"] == c["y"], {"x": tn.Int(0, 9), "y": tn.Int(0, 9)}),
    "sum": (lambda c: sum(c.values()) == 12, {name: tn.Int(0, 12) for name in "abc"}),
    "each label once": (lambda c: len(set(c.values())) == 4, {name: tn.Choice(DIGITS) for name in "abcd"}),
    "corner": (lambda c: c["x"] > 0.97 and c["y"] > 0.97, {"x": tn.Float(0, 1), "y": tn.Float(0, 1)}),
    "ring": (lambda c: 0.9 < c["x"] ** 2 + c["y"] ** 2 < 1, {"x": tn.Float(-1, 1), "y": tn.Float(-1, 1)}),
    "parity": (lambda c: sum(c.values()) % 2 == 1, {f"b{i}": tn.Choice([0, 1]) for i in range(6)}),
    "far apart": (lambda c: c["x"] == c["y"], {"x": tn.Int(0, 999), "y": tn.Int(0, 999), "z": tn.Float(0, 1)}),
    "one": (lambda c: (c["x"], c["k"]) == (123, "b"), {"x": tn.Int(0, 999), "k": tn.Choice(["a", "b"])}),
    "order": (
        lambda c: c["o"][0] == "a" and c["o"].index("b") < c["o"].index("c"),
        {"o": tn.Permutation(list("cdba"))},
    ),
}
SEARCHERS = {
    "Random": tn.Random,
    "Sobol": tn.Sobol,
    "TPE": lambda: tn.TPE(start=4),
    "GP": tn.GP,
    "CMAES": tn.CMAES,
    "Evolution": lambda: tn.Evolution(population=4, sample=2),
    "NSGA2": lambda: tn.NSGA2(population=4),
    "Auto": tn.Auto,
}


def space_of(name):
    where, entries = TIED[name]
    return tn.SearchSpace(where=where, **entries)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS)
def test_searchers_propose_what_is_allowed(make, name):
    space, searcher = space_of(name), make()
    try:
        searcher.check(space)
    except ValueError as error:
        pytest.skip(str(error))
    history = history_of(space)
    for number in range(TRIALS):
        config = proposed(searcher, space, history, stream(0, "search", number))
        if config is None:
            assert number >= space.size or name in ("one", "order")
            break
        assert space.allows(config)
        history.record(tn.Trial(number, config, "DONE", metrics={"loss": float(len(str(config)) % 5)}))


@pytest.mark.parametrize("name", TIED)
def test_a_point_is_repaired_near_it(name):
    space, rng = space_of(name), np.random.default_rng(0)
    axes = Coordinates(space)
    for _ in range(5):
        point = rng.random(len(space))
        near = repaired(axes, point, rng)
        assert space.allows(space.from_unit(near))
        assert repaired(axes, near, rng).tolist() == near.tolist()


def test_repair_changes_one_other_value_by_as_little_as_it_can():
    space = space_of("equal")
    repair = repaired(Coordinates(space), space.to_unit({"x": 3, "y": 8}), np.random.default_rng(0), held=[0])
    assert space.from_unit(repair) == {"x": 3, "y": 3}
    ring = space_of("ring")
    start = ring.to_unit({"x": 0.0, "y": 0.97})
    repair = repaired(Coordinates(ring), ring.to_unit({"x": 0.0, "y": 0.9}), np.random.default_rng(0), [0, 1], start)
    assert ring.from_unit(repair)["y"] == pytest.approx(0.95, abs=0.002)


def test_repair_survives_a_trial_that_is_not_allowed_any_more():
    space = space_of("corner")
    old = np.array([0.2, 0.2])
    near = repaired(Coordinates(space), np.array([0.1, 0.1]), np.random.default_rng(0), held=[0, 1], toward=old)
    assert space.allows(space.from_unit(near))


def test_a_child_differs_in_two_values_that_are_tied():
    space = space_of("each label once")
    cost = lambda config: abs(int(config["a"]) - 3) + abs(int(config["b"]) - 1)
    history = searched(tn.Evolution(population=4, sample=2), space, cost, 24)
    assert len({str(trial.config) for trial in history.trials}) > 18
    assert min(cost(trial.config) for trial in history.trials) == 0


def test_a_rare_configuration_is_drawn_by_its_prior():
    def where(config):
        return config["x"] == 499 and config["z"] in (0, 9)

    z = tn.Choice(list(range(10)), prior=[0.9, *[0.1 / 9] * 9])
    space, rng = tn.SearchSpace(where=where, x=tn.Int(0, 999), z=z), np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(12)]
    assert {config["x"] for config in drawn} == {499}
    assert sum(config["z"] == 0 for config in drawn) >= 9


def test_a_space_whose_where_allows_nothing_or_fails_is_refused_before_trial_0():
    never = tn.SearchSpace(where=lambda c: c["x"] == c["y"] + 20, x=tn.Int(0, 9), y=tn.Int(0, 9))
    with pytest.raises(ValueError, match=r"allowed none of the 100 configurations; relax"):
        tn.Study(space=never, minimize="loss", progress=False)
    branch = tn.Choice({"a": tn.SearchSpace(p=tn.Int(0, 3)), "b": 1})
    fails = tn.SearchSpace(where=lambda c: c["kind"]["a"]["p"] > 0, kind=branch)
    with pytest.raises(ValueError, match=r"where=.* fails with TypeError"):
        tn.Study(space=fails, minimize="loss", progress=False)
    with pytest.raises(ValueError, match=r"Grid: where= allows none of this grid's points"):
        tn.Study(space=space_of("one"), minimize="loss", searcher=tn.Grid(3), progress=False)


def test_a_trial_number_decides_a_draw_that_takes_the_place_of_a_sobol_point():
    space = space_of("one")
    histories = [history_of(space) for _ in range(2)]
    kept = tn.Sobol()
    for number in (0, 3):
        configs = []
        for searcher, history in zip((kept, tn.Sobol()), histories, strict=True):
            history.number = number
            configs.append(searcher.suggest(space, history, np.random.default_rng(number)))
        assert configs[0] == configs[1] == {"x": 123, "k": "b"}


def test_a_repair_does_not_end_on_the_trial_that_it_goes_toward():
    space = tn.SearchSpace(where=lambda c: min(c.values()) > 0.9, **{name: tn.Float(0, 1) for name in "abc"})
    history = searched(tn.CMAES(), space, lambda c: sum((value - 0.3) ** 2 for value in c.values()), 40)
    assert len({str(trial.config) for trial in history.trials}) == 40
