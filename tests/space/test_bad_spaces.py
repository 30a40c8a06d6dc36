"""Bad spaces: what the user sees. Each message holds the name, the value and the way out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.messages import refused

INF, NAN = math.inf, math.nan


# Parameters: what is given, the error, and what its message says.
PARAMETERS = [
    (tn.Float(1.0, 0.5), ValueError, ["Float", "low=1.0", "high=0.5", "swap"]),
    (tn.Int(9, 3), ValueError, ["Int", "low=9", "high=3", "swap"]),
    (tn.Float(0.0, 1.0, log=True), ValueError, ["low > 0", "low=0.0", "try low=1e-6", "drop log"]),
    (tn.Float(-0.1, 1.0, log=True), ValueError, ["low > 0", "low=-0.1", "try low=1e-6", "drop log"]),
    (tn.Int(0, 9, log=True), ValueError, ["low > 0", "low=0", "try low=1 ", "drop log"]),
    (tn.Int(-5, 9, log=True), ValueError, ["low > 0", "low=-5", "try low=1 ", "drop log"]),
    (tn.Float(NAN, 1.0), ValueError, ["finite", "low=nan", "choose a bound"]),
    (tn.Float(0.0, NAN), ValueError, ["finite", "high=nan", "choose a bound"]),
    (tn.Int(0, NAN), ValueError, ["finite", "high=nan", "choose a bound"]),
    (tn.Float(0.0, INF), ValueError, ["finite", "high=inf", "choose a bound"]),
    (tn.Float(-INF, 0.0), ValueError, ["finite", "low=-inf", "choose a bound"]),
    (tn.Int(0, INF), ValueError, ["finite", "high=inf", "choose a bound"]),
    (tn.Float(-1.7e308, 1.7e308), ValueError, ["overflows", "low=-1.7e+308", "high=1.7e+308", "narrower"]),
    (tn.Float(None, 1.0), TypeError, ["number", "low=None"]),
    (tn.Float(0.0, None), TypeError, ["number", "high=None"]),
    (tn.Int(None, 3), TypeError, ["number", "low=None"]),
    (tn.Float("1e-3", 1.0), TypeError, ["number", "low='1e-3'"]),
    (tn.Float(False, 1.0), TypeError, ["number", "low=False"]),
    (tn.Int(0, True), TypeError, ["number", "high=True"]),
    (tn.Float(0.0, 1.0 + 0j), TypeError, ["number", "high=(1+0j)"]),
    (tn.Float(0.0, 1.0, step=0.0), ValueError, ["step", "> 0", "step=0.0", "drop step"]),
    (tn.Float(0.0, 1.0, step=-0.1), ValueError, ["step", "> 0", "step=-0.1", "drop step"]),
    (tn.Float(0.0, 1.0, step=NAN), ValueError, ["step", "finite", "step=nan"]),
    (tn.Float(0.0, 1.0, step="0.1"), TypeError, ["step", "number", "step='0.1'"]),
    (tn.Float(0.0, 1.0, step=1e-320), ValueError, ["step", "1e-320"]),
    (tn.Int(0, 9, step=0), ValueError, ["step", "> 0", "step=0", "drop step"]),
    (tn.Int(0, 9, step=-2), ValueError, ["step", "> 0", "step=-2", "drop step"]),
    (tn.Int(0, 9, step=1.5), ValueError, ["step", "whole", "step=1.5", "drop step"]),
    (tn.Float(0.1, 1.0, log=True, step=0.1), ValueError, ["log=True", "step=0.1", "drop one"]),
    (tn.Int(1, 9, log=True, step=2), ValueError, ["log=True", "step=2", "drop one"]),
    (tn.Int(0.5, 9), ValueError, ["whole", "low=0.5", "tn.Float"]),
    (tn.Int(0, 10**30), ValueError, ["2**53", f"high={10**30}", "Float"]),
    (tn.Int(-(2**53) - 1, 0), ValueError, ["2**53", f"low={-(2**53) - 1}", "Float"]),
    (tn.Int(0, 10**400), ValueError, ["2**53", "high=1000", "Float"]),
    (tn.Float(0, 10**400), ValueError, ["finite", "high=1000"]),
    (tn.Choice([]), ValueError, ["Choice", "at least one", "[]"]),
    (tn.Choice({}), ValueError, ["Choice", "at least one", "{}"]),
    (tn.Choice("abc"), TypeError, ["Choice", "a list", "'abc'"]),
    (tn.Choice({1, 2}), TypeError, ["Choice", "a list", "{1, 2}"]),
    (tn.Choice(5), TypeError, ["Choice", "a list", "5"]),
    (tn.Choice(np.array([1, 2])), TypeError, ["Choice", "a list", "array([1, 2])"]),
    (tn.Choice([1, 2, 1]), ValueError, ["different", "1 twice", "remove one"]),
    (tn.Choice([1, 1.0]), ValueError, ["different", "1.0 twice", "remove one"]),
    (tn.Choice([[3, 3], (3, 3)]), ValueError, ["different", "(3, 3) twice", "remove one"]),
    (tn.Choice([0.1, NAN]), ValueError, ["finite", "nan at position 1"]),
    (tn.Choice([0.1, INF]), ValueError, ["finite", "inf at position 1"]),
    (tn.Choice([nn.ReLU, nn.Tanh]), TypeError, ["plain values", "ReLU at position 0", 'tn.Choice({"relu": ...})']),
    (tn.Choice([len]), TypeError, ["plain values", "len at position 0", 'tn.Choice({"len": ...})']),
    (tn.Choice([None, {1, 2}]), TypeError, ["plain values", "{1, 2} at position 1", "label"]),
    (tn.Choice([np.array([1, 2])]), TypeError, ["plain values", "array([1, 2]) at position 0", "label"]),
    (tn.Choice([torch.ones(2)]), TypeError, ["plain values", "tensor([1., 1.]) at position 0", "label"]),
    (tn.Choice([tn.call(dict)]), TypeError, ["plain values", "at position 0", "label"]),
    (tn.Choice({"a": tn.Float(0, 1), "b": 0.5}), TypeError, ["Float(0, 1)", "a"]),
    (tn.Choice({3: "three"}), TypeError, ["a label", "string", "3"]),
    (tn.Choice({"": 1}), ValueError, ["a label", "1 to 100 printable", "''"]),
    (tn.Choice({"a.b": 1}), ValueError, ["a label", "without a dot", "'a.b'"]),
    (tn.Constant(nn.ReLU), TypeError, ["Constant", "plain values", "ReLU", 'tn.Choice({"relu": ...})']),
    (tn.Constant(NAN), ValueError, ["Constant", "finite", "nan"]),
    ([1, 2], TypeError, ["parameter", "[1, 2]", "tn.Choice([1, 2])"]),
    (nn.ReLU, TypeError, ["parameter", "ReLU", "tn.Choice({"]),
    (tn.Float, TypeError, ["parameter", "Float"]),
]


@pytest.mark.parametrize(("entry", "error", "pieces"), PARAMETERS, ids=[" ".join(row[-1]) for row in PARAMETERS])
def test_bad_parameter_is_named_with_its_value_and_a_way_out(entry, error, pieces):
    refused(error, lambda: tn.SearchSpace(**{"my lr": entry}), '"my lr"', *pieces)


def test_bad_parameter_in_a_branch_is_named_by_its_whole_path():
    inner = tn.call(torch.optim.SGD, lr=tn.Float(1, 0))
    refused(ValueError, lambda: tn.SearchSpace(optimizer=tn.Choice({"sgd": inner})), 'Float "optimizer.sgd.lr"')
    refused(ValueError, lambda: tn.SearchSpace(model={"width": tn.Int(9, 1)}), 'Int "model.width"')


UNEVEN = [
    (tn.Float(0.0, 1.0, step=0.3), ["step=0.3", "high=1.0", "new high is 0.9"], 0.9),
    (tn.Int(0, 10, step=3), ["step=3", "high=10", "new high is 9"], 9),
    (tn.Float(0.0, 1.0, step=3.0), ["step=3.0", "high=1.0", "new high is 0.0"], 0.0),
    (tn.Float(0.0, 1.5e-13, step=1e-13), ["step=1e-13", "high=1.5e-13", "new high is 1e-13"], 1e-13),
]


@pytest.mark.parametrize(("parameter", "pieces", "high"), UNEVEN, ids=lambda value: repr(value)[:40])
def test_step_that_does_not_divide_warns_once_with_the_new_high(parameter, pieces, high):
    with pytest.warns(UserWarning, match="does not reach") as caught:
        space = tn.SearchSpace(lr=parameter)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # it points at the user's line
    message = str(caught[0].message)
    assert all(piece in message for piece in ['"lr"', *pieces]), message
    assert space.coordinates[0].parameter.high == high


def test_space_that_warned_is_read_again_in_silence():
    with pytest.warns(UserWarning, match="does not reach"):
        space = tn.SearchSpace(lr=tn.Float(0.0, 1.0, step=0.3))
    assert tn.SearchSpace.from_json(space.to_json()) == space


NAMES = [
    ("", ValueError, "''"),
    (" lr", ValueError, "' lr'"),
    ("model.lr", ValueError, "'model.lr'"),
    ("lr\n", ValueError, r"'lr\n'"),
    ("lr\x00", ValueError, r"'lr\x00'"),
    ("x" * 101, ValueError, "(101 characters)"),
    ("x" * 100_000, ValueError, "(100000 characters)"),
    (3, TypeError, "3"),
    (None, TypeError, "None"),
]


@pytest.mark.parametrize(("name", "error", "shown"), NAMES, ids=lambda value: repr(value)[:20])
def test_bad_name_is_shown_with_the_rule(name, error, shown):
    rule = "needs to be a string" if error is TypeError else "1 to 100 printable characters without a dot"
    refused(error, lambda: tn.SearchSpace(model={name: tn.Float(0, 1)}), 'a name in "model"', shown, rule)
    refused(error, lambda: tn.SearchSpace(x=tn.Choice({name: 1})), 'Choice "x": a label', shown, rule)
    if isinstance(name, str):
        refused(error, lambda: tn.SearchSpace(**{name: tn.Float(0, 1)}), "a name in the space", shown, rule)


def test_message_about_a_long_name_is_short():
    with pytest.raises(ValueError) as caught:
        tn.SearchSpace(**{"x" * 100_000: tn.Float(0, 1)})
    assert len(str(caught.value)) < 200


def test_call_refuses_what_cannot_be_called_and_what_is_not_taken():
    refused(TypeError, lambda: tn.call(3, lr=tn.Float(0, 1)), "tn.call", "callable", "3")
    refused(TypeError, lambda: tn.call(torch.optim.SGD, lrr=0.1), "SGD", '"lrr"', 'Did you mean "lr"?', "momentum")


# Configurations.


def space():
    return tn.SearchSpace(
        lr=tn.Float(0.0, 1.0),
        drop=tn.Float(0.0, 0.5, step=0.1),
        width=tn.Int(8, 32, step=8),
        act=tn.Choice(["relu", "tanh"]),
        depth=3,
        opt=tn.Choice({"sgd": tn.call(dict, momentum=tn.Float(0, 1)), "adam": None}),
    )


GOOD = {"lr": 0.5, "drop": 0.1, "width": 16, "act": "relu", "depth": 3, "opt": {"sgd": {"momentum": 0.5}}}

CONFIGS = [
    ({"lr": 1.5}, ['"lr"', "from 0.0 to 1.0", "1.5"]),
    ({"lr": -1e-3}, ['"lr"', "from 0.0 to 1.0", "-0.001"]),
    ({"lr": NAN}, ['"lr"', "from 0.0 to 1.0", "nan"]),
    ({"lr": INF}, ['"lr"', "from 0.0 to 1.0", "inf"]),
    ({"lr": None}, ['"lr"', "a number", "None"]),
    ({"lr": "0.5"}, ['"lr"', "a number", "'0.5'"]),
    ({"lr": b"0.5"}, ['"lr"', "a number", "b'0.5'"]),
    ({"lr": True}, ['"lr"', "a number", "True"]),
    ({"lr": np.bool_(True)}, ['"lr"', "a number", "True"]),
    ({"lr": torch.tensor(True)}, ['"lr"', "a number", "tensor(True)"]),
    ({"lr": np.ones(2)}, ['"lr"', "a number", "array([1., 1.])"]),
    ({"lr": torch.ones(2)}, ['"lr"', "a number", "tensor([1., 1.])"]),
    ({"lr": 10**400}, ['"lr"', "from 0.0 to 1.0"]),
    ({"drop": 0.15}, ['"drop"', "steps of 0.1 from 0.0", "0.15", "try 0."]),
    ({"width": 12}, ['"width"', "steps of 8 from 8", "12"]),
    ({"width": 16.5}, ['"width"', "whole number from 8 to 32", "16.5"]),
    ({"width": 40}, ['"width"', "whole number from 8 to 32", "40"]),
    ({"act": "rleu"}, ['"act"', "'relu', 'tanh'", "'rleu'"]),
    ({"act": nn.ReLU}, ['"act"', "'relu', 'tanh'", "ReLU"]),
    ({"act": np.array([1, 2])}, ['"act"', "'relu', 'tanh'", "array([1, 2])"]),
    ({"act": torch.ones(2)}, ['"act"', "'relu', 'tanh'", "tensor([1., 1.])"]),
    ({"depth": 4}, ['"depth"', "constant 3", "4"]),
    ({"depth": True}, ['"depth"', "constant 3", "True"]),
    ({"depth": torch.ones(2)}, ['"depth"', "constant 3", "tensor([1., 1.])"]),
    ({"opt": "sgd"}, ['"opt.sgd.momentum"', "missing", "give it a value"]),
    ({"opt": {"sgd": 3}}, ['"opt.sgd"', "a dict of momentum", "3"]),
    ({"opt": {"sgd": {"momentum": 2}}}, ['"opt.sgd.momentum"', "from 0.0 to 1.0", "2"]),
    ({"opt": {"sgd": {"momentum": 0.5, "lr": 1}}}, ['"opt.sgd.lr"', "not in the space", "momentum"]),
    ({"opt": {"adam": {"lr": 0.1}}}, ['"opt"', "no settings under 'adam'", "{'lr': 0.1}"]),
    ({"opt": {"sgdd": {}}}, ['"opt"', "'sgd', 'adam'", "'sgdd'"]),
    ({"opt": {"sgd": {}, "adam": {}}}, ['"opt"', "'sgd', 'adam'"]),
    ({"actt": "relu"}, ['"actt"', "not in the space", 'Did you mean "act"?']),
]


def test_good_configuration_is_taken():
    assert space().cast(GOOD) == GOOD


@pytest.mark.parametrize(("change", "pieces"), CONFIGS, ids=lambda value: repr(value)[:40])
def test_bad_value_is_named_with_what_is_allowed(change, pieces):
    refused(ValueError, lambda: space().cast(GOOD | change), *pieces)


def test_missing_value_is_named():
    refused(
        ValueError, lambda: space().cast({k: v for k, v in GOOD.items() if k != "lr"}), '"lr" is missing', "give it"
    )
    refused(ValueError, lambda: space().cast({}), "is missing", "give it")


@pytest.mark.parametrize("config", [None, 3, [0.5], "lr"])
def test_configuration_that_is_no_dict_is_told_the_names(config):
    refused(ValueError, lambda: space().cast(config), "a configuration", "dict of lr, drop, width", repr(config))


def test_whole_number_beyond_the_bound_is_refused_exactly():
    wide = tn.SearchSpace(n=tn.Int(0, 2**53))
    refused(ValueError, lambda: wide.cast({"n": 2**53 + 1}), '"n"', str(2**53 + 1))


UNITS = [
    ([0.5], ["2 numbers", "a, b", "(1,)"]),
    (np.zeros((2, 2)), ["2 numbers", "a, b", "(2, 2)"]),
    ([0.5, 1.0000001], ["[0, 1]", "1.0000001", '"b"', "clip"]),
    ([-0.1, 0.5], ["[0, 1]", "-0.1", '"a"', "clip"]),
    ([INF, 0.5], ["[0, 1]", "inf", '"a"', "clip"]),
]


@pytest.mark.parametrize(("unit", "pieces"), UNITS, ids=lambda value: repr(value)[:40])
def test_bad_point_of_the_unit_cube_is_named(unit, pieces):
    refused(ValueError, lambda: tn.SearchSpace(a=tn.Float(0, 1), b=tn.Int(0, 9)).from_unit(unit), *pieces)


# Grids and names of coordinates.

GRIDS = [
    (0, ValueError, ["at least 1 point", "0"]),
    (-3, ValueError, ["at least 1 point", "-3"]),
    (True, TypeError, ["a number of points", "True"]),
    (2.5, TypeError, ["a number of points", "2.5"]),
    ({"width": []}, ValueError, ['"model.width"', "at least one value", "leave the name out"]),
    ({"width": 0}, ValueError, ['"model.width"', "at least 1 point", "0"]),
    ({"width": "16"}, TypeError, ['"model.width"', "a list of values", "'16'"]),
    ({"width": None}, TypeError, ['"model.width"', "a list of values", "None"]),
    ({"width": [8, 99]}, ValueError, ['"model.width"', "from 8 to 32", "99"]),
    ({"width": [8, 8.0]}, ValueError, ['"model.width"', "8"]),
    ({"width": [8], "model.width": [9]}, ValueError, ["model.width"]),
    ({"act": ["rleu"]}, ValueError, ['"model.act"', "'relu'", "'rleu'"]),
    ({"widht": 3}, ValueError, ['no "widht"', 'Did you mean "width"?', "model.width"]),
    ({"lr": 3}, ValueError, ['"lr" could be', "sgd.lr, opt.adam.lr", "whole name"]),
    ({"depth": 3}, ValueError, ['no "depth"', "model.width"]),
]


def nested():
    opt = {name: tn.call(dict, lr=tn.Float(0, 1)) for name in ("sgd", "adam")}
    model = {"width": tn.Int(8, 32), "act": tn.Choice(["relu", "tanh"]), "depth": 3}
    return tn.SearchSpace(model=model, opt=tn.Choice(opt))


@pytest.mark.parametrize(("points", "error", "pieces"), GRIDS, ids=lambda value: repr(value)[:40])
def test_bad_grid_is_named_with_a_way_out(points, error, pieces):
    refused(error, lambda: nested().grid(points), *pieces)
    refused(error, lambda: tn.Grid(points).check(nested()), *pieces)


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("lr", ['"lr"', "opt.sgd.lr, opt.adam.lr", "whole name"]),
        ("widht", ['"widht"', 'Did you mean "width"?', "model.width"]),
        ("", ['""', "model.width"]),
        ("model", ['"model"', "model.width"]),
    ],
)
def test_name_that_is_not_one_coordinate_is_refused(name, pieces):
    refused(ValueError, lambda: nested().find(name), *pieces)
