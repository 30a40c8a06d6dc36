"""Proposals: what takes the place of a configuration that was tried, for any number of processes."""

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.searching import history_of, searched
from tuneflow.search.searcher import proposed
from tuneflow.search.untried import untried
from tuneflow.seeds import stream

BY_NUMBER = {
    "random": tn.Random,
    "sobol": tn.Sobol,
    "grid": lambda: tn.Grid(9),
    "shuffled grid": lambda: tn.Grid(9, shuffle=True),
    "lecun": lambda: tn.LeCun(tn.Random()),
}


def small():
    return tn.SearchSpace(a=tn.Int(1, 4), b=tn.Choice(["x", "y", "z"]), c=tn.Choice([1, 2]))


def endless():
    """Mostly the one configuration that can be counted."""
    kinds = {"a": tn.SearchSpace(x=tn.Float(0, 1)), "b": None}
    return tn.SearchSpace(kind=tn.Choice(kinds, prior=[1e-9, 1.0]))


@pytest.mark.parametrize("make", BY_NUMBER.values(), ids=BY_NUMBER.keys())
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [0, 2, 1]], ids=str)
def test_processes_that_are_ahead_of_others_foresee_what_those_will_try(make, order):
    alone = [trial.config for trial in searched(make(), small(), lambda _: 0.0, 24).trials]
    history, searcher = history_of(small()), make()
    for number in [3 * turn + place for turn in range(8) for place in order]:
        history.number = number
        config = proposed(searcher, small(), history, stream(0, "search", number))
        history.record(tn.Trial(number, config))
    assert [trial.config for trial in history.trials] == alone


class Stuck(tn.Searcher):
    """Proposes the same configuration always, and draws from its generator meanwhile."""

    def suggest(self, space, history, rng):
        return space.from_unit(np.full(len(space), 0.0) * rng.random())


@pytest.mark.parametrize("once", [True, False])
def test_a_searcher_that_repeats_itself_is_replaced_only_where_that_matters(once):
    history, configs = history_of(small()), []
    for number in range(6):
        configs.append(proposed(Stuck(), small(), history, stream(0, "search", number), once))
        history.record(tn.Trial(number, configs[-1], "DONE", metrics={"loss": 0.0}))
    assert len({str(config) for config in configs}) == (6 if once else 1)


def test_configurations_with_a_continuous_parameter_are_left_alone():
    space = tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(0, 1))
    history = searched(Stuck(), space, lambda _: 0.0, 4)
    assert [trial.config for trial in history.trials] == [{"x": 0.0, "n": 0}] * 4


def test_a_branch_without_numbers_is_tried_once_and_the_other_goes_on():
    history = searched(tn.Random(), endless(), lambda _: 0.0, 6)
    kinds = [str(trial.config["kind"]) for trial in history.trials]
    assert kinds[0] == "b"
    assert len(set(kinds)) == 6


def test_a_fork_is_no_training_from_the_start():
    history = history_of(tn.SearchSpace(n=tn.Int(0, 1)))
    history.record(tn.Trial(0, {"n": 0}))
    history.record(tn.Trial(1, {"n": 1}, parent=(0, 1)))
    assert history.first({"n": 0}) == 0
    assert history.first({"n": 1}) is None
    assert proposed(tn.Random(), history.space, history, stream(0)) == {"n": 1}


def test_the_first_trial_of_a_configuration_has_the_lowest_number():
    history = history_of(tn.SearchSpace(n=tn.Int(0, 9)))
    for number in (2, 0, 1):
        history.record(tn.Trial(number, {"n": 7}))
        assert history.first({"n": 7}) == (2 if number == 2 else 0)
    assert history.first({"n": 8}) is None


SPACES = {
    "finite": lambda: tn.SearchSpace(a=tn.Int(0, 6), b=tn.Int(0, 6)),
    "where": lambda: tn.SearchSpace(where=lambda c: c["a"] == c["b"], a=tn.Int(0, 40), b=tn.Int(0, 40)),
    "huge": lambda: tn.SearchSpace(a=tn.Int(0, 2**50), b=tn.Int(0, 3)),
    "no coordinates": lambda: tn.SearchSpace(n=3),
}


@pytest.mark.parametrize(("name", "count"), [("finite", 49), ("where", 41), ("huge", 60), ("no coordinates", 1)])
def test_untried_configurations_come_one_by_one_until_none_is_left(name, count):
    space, tried = SPACES[name](), []
    while len(tried) < 60 and (config := untried(space, tried.__contains__, stream(0, len(tried)))) is not None:
        tried.append(config)
    assert len(tried) == count


def test_a_grid_goes_on_where_its_points_were_tried_by_others():
    space, history = small(), history_of(small())
    history.record(tn.Trial(0, {"a": 2, "b": "x", "c": 1}))
    configs = []
    while (config := proposed(tn.Grid(9), space, history, stream(0))) is not None:
        configs.append(config)
        history.record(tn.Trial(len(history), config))
    assert len(configs) == 23
    assert configs[:2] == [{"a": 1, "b": "x", "c": 1}, {"a": 1, "b": "x", "c": 2}]


@pytest.mark.parametrize("make", [tn.GP, lambda: tn.TPE(start=3), lambda: tn.Evolution(population=4, sample=2)])
def test_where_all_was_tried_the_best_is_trained_most_and_the_worst_once(make):
    study = tn.Study(space=tn.SearchSpace(n=tn.Int(1, 6)), searcher=make(), minimize="n", progress=False)
    while (trial := study.ask(trials=15)) is not None:
        study.tell(trial, trial.config)
    numbers = [trial.config["n"] for trial in study.trials]
    assert [numbers.count(n) for n in range(1, 7)] == [6, 3, 2, 2, 1, 1]
