"""Permutations: an order of items as a parameter of a space, in the configuration and in the unit cube."""

import itertools
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.messages import refused
from tuneflow.space.order_codes import neighbors, orders_at, reordered, units_of

ITEMS = [["a", "b", "c", "d"], [3, 1, 2], [(1, 2), (2, 1)], ["two words", "a.b", ""], [None, True, 1.5], ["alone"]]


def order_of(items, **settings):
    return tn.SearchSpace(order=tn.Permutation(items), **settings)


@pytest.mark.parametrize("items", ITEMS, ids=str)
def test_orders_are_each_at_one_cell_of_the_unit_cube(items):
    space = order_of(items)
    orders = [{"order": list(order)} for order in itertools.permutations(items)]
    units = [tuple(space.to_unit(config)) for config in orders]
    assert [space.from_unit(unit) for unit in units] == orders
    assert len(set(units)) == len(orders) == space.size == len(space.grid(math.factorial(len(items))))
    assert len(space) == len(items) - 1


def test_orders_are_drawn_alike():
    space, rng = order_of(["a", "b", "c"]), np.random.default_rng(0)
    drawn = ["".join(space.sample(rng)["order"]) for _ in range(3000)]
    counts = [drawn.count("".join(order)) for order in itertools.permutations("abc")]
    assert sum((count - 500) ** 2 / 500 for count in counts) < 20.5  # chi-squared of 5: one in a thousand seeds


@pytest.mark.parametrize("count", [1, 2, 5, 20, 60])
def test_the_listed_order_is_in_the_middle(count):
    space = order_of(list(range(count)))
    assert space.from_unit([0.5] * (count - 1)) == {"order": list(range(count))}


def test_twenty_items_are_more_than_a_float_can_count():
    space, rng = order_of(list(range(20))), np.random.default_rng(0)
    assert space.size == math.factorial(20)
    for _ in range(50):
        config = space.sample(rng)
        assert space.from_unit(space.to_unit(config)) == config
    assert [config["order"][0] for config in space.grid(3)] == [0, 9, 19]
    assert order_of(list(range(200))).size == math.inf


def test_labels_are_stored_and_objects_passed_on():
    space = tn.SearchSpace(model={"layers": tn.Permutation({"relu": nn.ReLU, "a.b c": partial(nn.ELU, 0.5)})})
    config = space.cast({"model": {"layers": ("a.b c", "relu")}})
    assert config == {"model": {"layers": ["a.b c", "relu"]}}
    elu, relu = space.resolve(config)["model"]["layers"]
    assert (elu.func, relu) == (nn.ELU, nn.ReLU)
    assert json.loads(json.dumps(config)) == config


def test_an_order_in_a_branch_is_active_with_it():
    space = tn.SearchSpace(
        kind=tn.Choice({"a": tn.call(dict, order=tn.Permutation([1, 2, 3]), x=tn.Float(0, 1)), "b": None}),
        n=tn.Int(1, 2),
    )
    assert space.names == ["kind", "kind.a.order[0]", "kind.a.order[1]", "kind.a.x", "n"]
    assert np.isnan(space.to_unit({"kind": "b", "n": 1})).tolist() == [False, True, True, True, False]
    config = {"kind": {"a": {"order": [3, 1, 2], "x": 0.25}}, "n": 2}
    assert space.from_unit(space.to_unit(config)) == config
    assert space.resolve(config)["kind"]() == {"order": [3, 1, 2], "x": 0.25}
    assert space.structure(config) == {"kind": "a", "kind.a.order": [3, 1, 2], "n": 2}
    assert space.find("order") == 1
    assert tn.SearchSpace(kind=space.entries["kind"]).grid({"order": 6, "x": 1}).total == 6 + 1


PROPOSALS = [("c", "a", "b"), ["c", "a", "b"], np.array(["c", "a", "b"]), [np.str_("c"), "a", "b"]]


@pytest.mark.parametrize("proposal", PROPOSALS, ids=["tuple", "list", "array", "scalars"])
def test_proposals_become_plain_lists(proposal):
    order = order_of(["a", "b", "c"]).cast({"order": proposal})["order"]
    assert (order, {type(item) for item in order}) == (["c", "a", "b"], {str})


@pytest.mark.parametrize("proposal", [torch.tensor([2, 0, 1]), np.array([2.0, 0.0, 1.0]), [2, np.int64(0), 1.0]])
def test_numbers_of_arrays_are_items_too(proposal):
    assert order_of([0, 1, 2]).cast({"order": proposal})["order"] == [2, 0, 1]


BAD_VALUES = [
    (["a", "b"], ["each item once", "['a', 'b']", "'c' is missing"]),
    (["a", "b", "b"], ["each item once", "'b' is there 2 times"]),
    (["a", "b", "c", "c"], ["each item once", "'c' is there 2 times"]),
    (["a", "b", "d"], ["'a', 'b', 'c' in any order", "'d' is none"]),
    (["a", "b", ["c"]], ["'a', 'b', 'c' in any order", "['c'] is none"]),
    ("abc", ["a list of", "got 'abc'"]),
    (0, ["a list of", "got 0"]),
    ({"a": 1}, ["a list of", "got {'a': 1}"]),
]


@pytest.mark.parametrize(("value", "words"), BAD_VALUES, ids=lambda case: str(case)[:30])
def test_what_is_no_order_is_refused(value, words):
    refused(ValueError, lambda: order_of(["a", "b", "c"]).cast({"order": value}), '"order"', *words)


BAD_ITEMS = [
    ([], ValueError, ["at least one item"]),
    ({}, ValueError, ["at least one item"]),
    ("abc", TypeError, ["a list of items", "'abc'"]),
    ({1, 2}, TypeError, ["a list of items"]),
    (3, TypeError, ["a list of items"]),
    ([1, 1.0], ValueError, ["different items", "1.0 twice", "label"]),
    (["a", "b", "a"], ValueError, ["different items", "'a' twice", "label"]),
    ([nn.ReLU, nn.Tanh], TypeError, ["plain values", 'tn.Permutation({"relu": ...})']),
    ([1, math.nan], ValueError, ["finite"]),
    ({1: "one"}, TypeError, ["a label", "string", "1"]),
    ({"a": tn.Float(0, 1)}, TypeError, ["'a'", "a name of its own"]),
    ({"a": tn.call(dict, x=tn.Float(0, 1))}, TypeError, ["'a'", "functools.partial", "beside the permutation"]),
]


@pytest.mark.parametrize(("items", "kind", "words"), BAD_ITEMS, ids=lambda case: str(case)[:30])
def test_bad_items_are_refused_by_name(items, kind, words):
    refused(kind, lambda: order_of(items), "Permutation", '"order"', *words)


def test_a_grid_takes_orders_and_numbers_of_them():
    space = order_of(["a", "b", "c"], n=tn.Int(1, 2))
    assert len(space.grid({"order": [["b", "a", "c"], ("c", "b", "a")]})) == 4
    assert [config["order"] for config in space.grid({"order": 2, "n": 1})] == [["a", "b", "c"], ["c", "b", "a"]]
    refused(ValueError, lambda: space.grid({"order": [["a", "b"]]}), 'grid of "order"', "'c' is missing")
    refused(ValueError, lambda: space.grid({"order": 2, "order[1]": 2}), 'grid of "order"', "twice")


def test_orders_survive_json_in_the_same_coordinates():
    space = tn.SearchSpace(x=tn.Permutation({"b": print, "a": len}), y=tn.Permutation([(3, 3), 1]))
    again = tn.SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    config = space.from_unit([0.1, 0.9])
    assert again.to_unit(json.loads(json.dumps(config))).tolist() == space.to_unit(config).tolist()
    assert space != tn.SearchSpace(x=tn.Permutation({"a": len, "c": print}), y=tn.Permutation([(3, 3), 1]))


def test_where_sees_the_list_and_cannot_change_what_is_stored():
    def last(config):
        return config["order"].pop() == "c"

    space, rng = order_of(["a", "b", "c"], where=last), np.random.default_rng(0)
    configs = [space.sample(rng) for _ in range(20)]
    assert {tuple(config["order"]) for config in configs} == {("a", "b", "c"), ("b", "a", "c")}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_orders_as_arrays_have_the_coordinates_of_the_space(count):
    orders = np.array(list(itertools.permutations(range(count))))
    space = order_of(list(range(count)))
    np.testing.assert_array_equal(orders_at(units_of(orders)), orders)
    np.testing.assert_allclose(units_of(orders), [space.to_unit({"order": order.tolist()}) for order in orders])
    assert orders_at(np.full((1, count - 1), np.nan))[0].tolist() == list(range(count))


def test_neighbors_of_an_order_are_its_swaps_and_moves():
    order, rng = np.array([2, 0, 3, 1]), np.random.default_rng(0)
    near = {tuple(row) for row in order[neighbors(4)]}
    places = itertools.permutations(range(4), 2)
    moves = {tuple(np.insert(np.delete(order, old), new, order[old])) for old, new in places}
    swaps = {tuple(row) for row in itertools.permutations(order) if (row != order).sum() == 2}
    assert (near, len(neighbors(4))) == (moves | swaps, 6 + 6)
    assert {tuple(row) for row in reordered(np.repeat(order[None], 300, axis=0), rng)} == near


@pytest.mark.parametrize("count", [2, 44, 60, 200])
def test_neighbors_of_many_items_are_permutations_and_not_too_many(count):
    rows = neighbors(count)
    assert len(rows) <= 6_000
    assert (np.sort(rows, axis=1) == np.arange(count)).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
