"""Spaces: what holds of every space, then closed forms for each kind of parameter."""

import itertools
import json
import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import tuneflow as tn
from tests.helpers import space_strategies as some
from tests.helpers.space_strategies import laws

OPTIMIZERS = {
    "sgd": tn.call(torch.optim.SGD, lr=tn.Float(1e-4, 1.0, log=True), momentum=tn.Float(0.0, 0.99)),
    "adam": tn.call(torch.optim.Adam, lr=tn.Float(1e-5, 1e-1, log=True)),
    "plain": torch.optim.Adagrad,
}


def conditional():
    return tn.SearchSpace(model={"width": tn.Int(8, 32)}, optimizer=tn.Choice(OPTIMIZERS))


def only(parameter):
    """The parameter as a space of one name has it."""
    return tn.SearchSpace(x=parameter).coordinates[0].parameter


def same(config):
    """JSON of a configuration: to compare where tuples have become lists, and to tell 1 from True."""
    return json.dumps(config, sort_keys=True)


def is_plain(value):
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def is_active(config, path):
    """Whether `config` has a value at `path`; a reference that knows only nested dicts."""
    for name in path:
        if not isinstance(config, dict) or name not in config:
            return False
        config = config[name]
    return True


# Laws of every space.


@laws
@given(some.points(some.discrete_spaces))
def test_discrete_configuration_survives_the_unit_cube(placed):
    space, point = placed
    config = space.from_unit(point)
    assert space.from_unit(space.to_unit(config)) == config


@laws
@given(some.points())
def test_point_of_a_configuration_survives_translation(placed):
    space, point = placed
    unit = space.to_unit(space.from_unit(point))
    np.testing.assert_allclose(space.to_unit(space.from_unit(unit)), unit, atol=1e-9)


@laws
@given(some.floats(), st.floats(0, 1))
def test_real_number_survives_the_unit_interval(parameter, unit):
    real = only(parameter)
    value = real.from_unit(unit)
    assert real.low <= value <= real.high
    assert math.isclose(real.from_unit(real.to_unit(value)), value, rel_tol=1e-9, abs_tol=1e-9 * (real.high - real.low))


@laws
@given(some.spaces, some.seeds)
def test_sample_is_its_own_cast_and_plain(space, seed):
    config = space.sample(np.random.default_rng(abs(seed)))
    assert space.cast(config) == config
    assert is_plain(config)


@laws
@given(some.points())
def test_any_point_gives_a_configuration_that_casts_to_itself(placed):
    space, point = placed
    config = space.from_unit(point)
    assert same(space.cast(config)) == same(config)


@laws
@given(some.points())
def test_configuration_survives_json(placed):
    space, point = placed
    config = space.from_unit(point)
    assert space.cast(json.loads(json.dumps(config))) == config


@laws
@given(some.points())
def test_space_survives_json(placed):
    space, point = placed
    again = tn.SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.names == space.names
    assert same(again.from_unit(point)) == same(space.from_unit(point))


@laws
@given(some.points())
def test_coordinates_are_nan_exactly_where_not_active(placed):
    space, point = placed
    config = space.from_unit(point)
    active = [is_active(config, axis.path) for axis in space.coordinates]
    assert (~np.isnan(space.to_unit(config))).tolist() == active


@laws
@given(some.points(), st.data())
def test_nan_is_read_as_the_middle(placed, data):
    space, point = placed
    unknown = np.array(data.draw(st.lists(st.booleans(), min_size=len(space), max_size=len(space))), dtype=bool)
    halved = np.where(unknown, 0.5, point)
    assert space.from_unit(np.where(unknown, np.nan, point)) == space.from_unit(halved)


@laws
@given(some.spaces, st.integers(1, 3))
def test_grid_size_counts_distinct_points(space, points):
    grid = space.grid(points)
    assume(grid.total <= 500)
    assert len({same(config) for config in grid}) == grid.total == len(grid)
    assert all(space.cast(config) == config for config in grid)


@laws
@given(some.discrete_spaces)
def test_full_grid_of_a_discrete_space_has_every_configuration(space):
    assume(space.size <= 500)
    grid = space.grid(
        {axis.name: axis.parameter.grid(500) for axis in space.coordinates if axis.parameter.levels < 500}
    )
    assert len({same(config) for config in grid}) == space.size


@laws
@given(some.spaces)
def test_examples_have_every_label_of_every_choice(space):
    seen = [set() for _ in space.coordinates]
    for config in space.examples():
        assert space.cast(config) == config
        for axis, labels, unit in zip(space.coordinates, seen, space.to_unit(config), strict=True):
            if unit == unit:
                labels.add(same(axis.parameter.from_unit(unit)))
    for axis, labels in zip(space.coordinates, seen, strict=True):
        if isinstance(axis.parameter, tn.Choice) and isinstance(axis.parameter.options, dict):
            assert labels == {same(label) for label in axis.parameter.options}, axis.name


@laws
@given(some.discrete, st.integers(1, 4))
def test_equal_lengths_of_the_unit_interval_are_equally_likely(parameter, times):
    discrete = only(parameter)
    assume(discrete.levels <= 1000 and not getattr(discrete, "log", False))
    count = int(discrete.levels) * times
    drawn = Counter(same(discrete.from_unit((i + 0.5) / count)) for i in range(count))
    assert len(drawn) == discrete.levels
    assert set(drawn.values()) == {times}


@laws
@given(some.parameters, st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_numbers_grow_along_the_unit_interval(parameter, units):
    number = only(parameter)
    assume(not isinstance(number, tn.Choice))
    values = [number.from_unit(unit) for unit in sorted(units)]
    assert values == sorted(values)
    assert number.from_unit(0.0) == number.low
    assert number.from_unit(1.0) == pytest.approx(number.high, rel=1e-12)


@laws
@given(some.floats() | some.stepped_floats() | some.ints(), st.integers(2, 9))
def test_grid_of_numbers_rises_from_one_bound_to_the_other(parameter, points):
    number = only(parameter)
    grid = number.grid(points)
    assert (grid[0], grid[-1]) == (number.low, number.high)
    assert grid == sorted(set(grid))


@laws
@given(some.flat_spaces)
def test_every_coordinate_is_found_by_its_name(space):
    assert [space.find(name) for name in space.names] == list(range(len(space)))


# Closed forms.


def test_log_float_has_its_geometric_mean_in_the_middle():
    assert only(tn.Float(1e-4, 1.0, log=True)).from_unit(0.5) == pytest.approx(1e-2)


def test_log_float_grid_ends_on_its_bounds():
    grid = only(tn.Float(1e-4, 1.0, log=True)).grid(5)
    assert grid == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_log_int_weighs_a_value_by_the_logarithm_of_its_cell():
    whole = only(tn.Int(1, 8, log=True))
    count = 100_000
    drawn = Counter(whole.from_unit((i + 0.5) / count) for i in range(count))
    shares = {v: math.log((v + 0.5) / (v - 0.5)) / math.log(8.5 / 0.5) for v in range(1, 9)}
    assert {v: n / count for v, n in drawn.items()} == pytest.approx(shares, abs=1e-4)


def test_log_int_grid_has_every_value_when_points_are_plenty():
    assert only(tn.Int(1, 4, log=True)).grid(10) == [1, 2, 3, 4]


@pytest.mark.parametrize("points", [2, 3, 5, 9])
def test_log_int_grid_has_both_ends(points):
    grid = only(tn.Int(1, 1024, log=True)).grid(points)
    assert (grid[0], grid[-1]) == (1, 1024)
    assert len(grid) == points


def test_grid_of_a_wide_int_is_evenly_spread():
    assert only(tn.Int(0, 100)).grid(5) == [0, 25, 50, 75, 100]
    assert only(tn.Int(0, 100)).grid(1) == [50]


def test_steps_are_free_of_rounding():
    assert only(tn.Float(0.0, 0.5, step=0.1)).grid(9) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert only(tn.Int(8, 32, step=8)).grid(9) == [8, 16, 24, 32]


def test_steps_keep_digits_that_matter():
    micro = only(tn.Float(1e6, 1e6 + 1e-6, step=1e-7))
    assert len(set(micro.grid(99))) == 11


def test_stepped_values_stay_in_range():
    fine = only(tn.Float(0.1234567890123, 1.1234567890123, step=0.5))
    assert all(0.1234567890123 <= value <= 1.1234567890123 for value in fine.grid(9))


@pytest.mark.parametrize(
    "whole", [tn.Int(1, 2**52), tn.Int(-(2**51), 2**51 - 1), tn.Int(1, 2**46, log=True)], ids=["up", "around", "log"]
)
def test_every_whole_number_of_a_wide_range_survives_the_unit_interval(whole):
    parameter = only(whole)
    values = [whole.low, whole.high, *np.random.default_rng(0).integers(whole.low, whole.high, 100).tolist()]
    assert [parameter.from_unit(parameter.to_unit(value)) for value in values] == values


def test_log_float_spans_what_a_ratio_of_floats_cannot():
    wide = only(tn.Float(1e-200, 1e200, log=True))
    assert wide.from_unit(0.0) == pytest.approx(1e-200)
    assert wide.from_unit(0.5) == pytest.approx(1.0)
    assert wide.to_unit(1e100) == pytest.approx(0.75)


@pytest.mark.parametrize("parameter", [tn.Float(0.3, 0.3), tn.Int(3, 3), tn.Int(3, 3, log=True), tn.Choice([3])])
def test_one_value_is_a_constant(parameter):
    space = tn.SearchSpace(x=parameter)
    value = space.from_unit([0.0])["x"]
    assert value in (3, 0.3)
    assert space.from_unit([1.0])["x"] == value
    assert space.to_unit({"x": value}).tolist() == [0.5]
    assert space.size == len(space.grid()) == 1


def test_constant_is_in_every_configuration_and_has_no_coordinate():
    space = tn.SearchSpace(depth=3, model={"name": tn.Constant("net")}, x=tn.Int(0, 1))
    assert space.names == ["x"]
    assert space.from_unit([0.0]) == {"depth": 3, "model": {"name": "net"}, "x": 0}


def test_space_without_parameters_has_one_configuration():
    space = tn.SearchSpace(depth=3)
    assert len(space) == 0
    assert list(space.grid()) == [space.from_unit([])] == list(space.examples()) == [{"depth": 3}]


def test_size_multiplies_parts_and_adds_branches():
    space = tn.SearchSpace(
        n=tn.Int(1, 4),
        kind=tn.Choice({"a": tn.call(dict, x=tn.Int(1, 3), y=tn.Choice([1, 2])), "b": tn.call(dict), "c": None}),
    )
    assert space.size == len(space.grid(9)) == 4 * (3 * 2 + 1 + 1)
    assert tn.SearchSpace(x=tn.Float(0, 1), n=tn.Int(1, 4)).size == math.inf
    assert tn.SearchSpace(x=tn.Float(0, 1, step=0.25)).size == 5


# What may be given as a value, and what comes out.

NUMBERS = [np.int64(3), np.int8(3), np.float64(3.0), np.float32(3.0), torch.tensor(3), torch.tensor(3.0), 3, 3.0]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{type(value).__module__}.{type(value).__name__}")
@pytest.mark.parametrize(
    ("parameter", "kind"),
    [(tn.Float(0, 9), float), (tn.Float(0, 9, step=0.5), float), (tn.Int(0, 9), int), (tn.Choice([1, 3]), int)],
    ids=["float", "step", "int", "choice"],
)
def test_scalars_of_numpy_and_torch_become_plain_numbers(value, parameter, kind):
    config = tn.SearchSpace(x=parameter).cast({"x": value})
    assert config == {"x": 3}
    assert type(config["x"]) is kind


def test_strings_of_numpy_become_plain_strings():
    space = tn.SearchSpace(act=tn.Choice(["relu", "tanh"]), kind=tn.Choice({"a": tn.call(dict), "b": None}))
    assert is_plain(space.cast({"act": np.str_("tanh"), "kind": np.str_("a")}))
    assert is_plain(space.cast({"act": np.str_("tanh"), "kind": np.str_("b")}))


def test_flags_are_not_numbers():
    space = tn.SearchSpace(x=tn.Choice([0, 1, True]))
    assert space.cast({"x": True})["x"] is True
    assert space.cast({"x": np.bool_(True)})["x"] is True
    assert type(space.cast({"x": 1})["x"]) is int


def test_lists_are_options_and_tuples_are_the_same_ones():
    space = tn.SearchSpace(kernel=tn.Choice([[3, 3], [5, 5]]), more=tn.Choice([{"a": 1}, {"a": 2}]))
    config = {"kernel": (5, 5), "more": {"a": 2}}
    assert space.to_unit(config).tolist() == [0.75, 0.75]
    assert space.cast(config) == {"kernel": [5, 5], "more": {"a": 2}}


@pytest.mark.parametrize(
    "entry",
    [tn.Choice(list(np.array([16, 32]))), tn.Constant(np.int64(3)), np.float64(0.5), tn.Choice([np.float32(0.5)])],
    ids=["choice", "constant", "bare", "float32"],
)
def test_options_and_constants_of_numpy_come_out_plain(entry):
    space = tn.SearchSpace(x=entry)
    assert is_plain(space.from_unit(np.full(len(space), 0.5)))


def test_bounds_of_numpy_and_torch_survive_json():
    space = tn.SearchSpace(x=tn.Float(np.float32(0.5), np.float32(1.0)), n=tn.Int(np.int64(1), np.int64(5)))
    assert json.loads(json.dumps(space.to_json())) == tn.SearchSpace(x=tn.Float(0.5, 1.0), n=tn.Int(1, 5)).to_json()


def test_value_a_rounding_error_outside_is_the_bound():
    assert tn.SearchSpace(x=tn.Float(0.1, 0.3)).cast({"x": 0.1 + 0.2}) == {"x": 0.3}


# Conditional spaces.


def test_chosen_call_becomes_a_partial_and_other_labels_their_object():
    space = conditional()
    sgd = space.resolve({"model": {"width": 9}, "optimizer": {"sgd": {"lr": 0.1, "momentum": 0.9}}})
    assert sgd["model"] == {"width": 9}
    assert isinstance(sgd["optimizer"], partial)
    assert sgd["optimizer"].func is torch.optim.SGD
    assert sgd["optimizer"].keywords == {"lr": 0.1, "momentum": 0.9}
    assert space.resolve({"model": {"width": 9}, "optimizer": "plain"})["optimizer"] is torch.optim.Adagrad


def test_resolved_optimizer_can_be_made():
    space = conditional()
    for config in space.examples():
        made = space.resolve(config)["optimizer"](nn.Linear(2, 2).parameters())
        assert isinstance(made, torch.optim.Optimizer)


@laws
@given(some.points())
def test_resolving_leaves_the_configuration_as_it_was(placed):
    space, point = placed
    config = space.from_unit(point)
    before = same(config)
    space.resolve(config)
    assert same(config) == before


def test_nested_space_is_a_branch_and_gives_its_settings():
    space = tn.SearchSpace(
        head=tn.Choice({"wide": tn.SearchSpace(width=tn.Int(1, 5), act=tn.Choice({"relu": nn.ReLU}))})
    )
    config = space.from_unit([0.0, 0.99, 0.0])
    assert config == {"head": {"wide": {"width": 5, "act": "relu"}}}
    assert space.resolve(config) == {"head": {"width": 5, "act": nn.ReLU}}


def test_choice_within_a_branch_needs_both_labels():
    inner = tn.Choice({"cosine": tn.call(dict, floor=tn.Float(0, 1)), "flat": None})
    space = tn.SearchSpace(opt=tn.Choice({"sgd": tn.call(dict, schedule=inner), "adam": None}))
    assert space.names == ["opt", "opt.sgd.schedule", "opt.sgd.schedule.cosine.floor"]
    assert np.isnan(space.to_unit({"opt": "adam"})).tolist() == [False, True, True]
    assert np.isnan(space.to_unit({"opt": {"sgd": {"schedule": "flat"}}})).tolist() == [False, False, True]
    assert {"opt": {"sgd": {"schedule": {"cosine": {"floor": 0.5}}}}} in list(space.examples())


def test_conditional_grid_adds_its_branches():
    grid = conditional().grid({"width": 2, "sgd.lr": 3, "momentum": 4, "adam.lr": [1e-3]})
    assert len(grid) == 2 * (3 * 4 + 1 + 1)
    labels = Counter(next(iter(c["optimizer"])) if isinstance(c["optimizer"], dict) else "plain" for c in grid)
    assert labels == {"sgd": 24, "adam": 2, "plain": 2}


@pytest.mark.parametrize("options", [{"a": {"x": 1}, "b": {"x": 2}}, {"a": [1, 2]}, {"a": (1, 2)}, {"a": {}}])
def test_plain_options_under_labels_survive_json(options):
    space = tn.SearchSpace(x=tn.Choice(options))
    again = tn.SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert list(again.grid()) == list(space.grid())


class Scale(nn.Module):
    pass


@pytest.mark.parametrize(
    "option",
    [partial(Scale), partial(lambda x: x, 1), Scale, lambda x: x, tn.call(partial(Scale)), object()],
    ids=["partial", "partial lambda", "class", "lambda", "call", "instance"],
)
def test_json_of_a_space_names_no_address(option):
    assert "0x" not in json.dumps(tn.SearchSpace(x=tn.Choice({"a": option})).to_json())


def test_space_that_was_read_again_knows_names_only():
    again = tn.SearchSpace.from_json(conditional().to_json())
    config = again.from_unit(np.full(len(again), 0.5))
    assert "Adam" in repr(again.resolve(config)["optimizer"].func)
    with pytest.raises(tn.errors.StudyError, match="name only"):
        again.resolve(config)["optimizer"]([])


# Names.


def test_name_is_found_by_the_end_of_its_path():
    space = conditional()
    assert space.names[space.find("momentum")] == "optimizer.sgd.momentum"
    assert space.names[space.find("adam.lr")] == "optimizer.adam.lr"
    assert space.names[space.find("optimizer")] == "optimizer"


def test_whole_name_wins_over_an_end():
    space = tn.SearchSpace(inner={"lr": tn.Float(0, 1)}, lr=tn.Float(0, 1))
    assert space.names[space.find("lr")] == "lr"


@pytest.mark.parametrize("name", ["a; DROP TABLE trials; --", "größe", "two words", "class", "x" * 100, "self"])
def test_unusual_names_are_names(name):
    assert tn.SearchSpace(**{name: tn.Int(0, 1)}).from_unit([1.0]) == {name: 1}


def test_repr_shows_every_coordinate():
    shown = repr(conditional())
    assert all(name in shown for name in conditional().names)
    assert "sgd | adam | plain" in shown


def test_equal_spaces_have_equal_json():
    assert conditional() == conditional()
    assert conditional() != tn.SearchSpace(model={"width": tn.Int(8, 32)})
    assert tn.SearchSpace(x=tn.Int(0, 1)) != tn.SearchSpace(x=tn.Float(0, 1))


# Large ones.


def test_hundred_thousand_options():
    space = tn.SearchSpace(x=tn.Choice([f"word {i}" for i in range(100_000)]), y=tn.Choice(range(100_000)))
    assert space.cast({"x": "word 99999", "y": 99_999}) == space.from_unit([1.0, 1.0])
    assert space.from_unit(space.to_unit({"x": "word 31415", "y": 5})) == {"x": "word 31415", "y": 5}
    assert len(repr(space)) < 1000


@pytest.mark.parametrize("digits", [12, 40])
def test_points_of_an_endless_grid_are_made_when_asked_for(digits):
    grid = tn.SearchSpace(**{f"x{i}": tn.Int(0, 9) for i in range(digits)}).grid(10)
    assert grid.total == 10**digits
    place = int("0123456789" * 4) // 10 ** (40 - digits)
    assert "".join(map(str, grid[place].values())) == str(place).zfill(digits)
    assert set(grid[-1].values()) == {9}
    assert next(iter(grid)) == grid[0]
    with pytest.raises(IndexError, match=str(10**digits)):
        grid[10**digits]


def test_last_name_varies_fastest():
    space = tn.SearchSpace(a=tn.Choice(["x", "y"]), b=tn.Int(0, 2), c=tn.Choice([True, False]))
    wanted = [dict(zip("abc", row, strict=True)) for row in itertools.product(["x", "y"], [0, 1, 2], [True, False])]
    assert list(space.grid()) == wanted
    assert space.grid()[2:5] == wanted[2:5]
    assert space.grid()[-1] == wanted[-1]


def test_grid_takes_lists_of_values_in_their_order():
    space = tn.SearchSpace(model={"width": tn.Int(1, 9)}, lr=tn.Float(0, 1))
    grid = space.grid({"model.width": [5, 2], "lr": (0.25,)})
    assert list(grid) == [{"model": {"width": 5}, "lr": 0.25}, {"model": {"width": 2}, "lr": 0.25}]
    assert len(space.grid({"width": 3})) == 3 * 5
