"""A parameter contains an earlier one if it has all its values, and passes on the same for each."""

import pytest
from torch import nn

import tuneflow as tn
from tuneflow.space.containment import contains

UNIT = tn.Float(0.0, 1.0)
TENTHS = tn.Float(0.1, 1.0, step=0.1)
PAIRS = {
    "the same": (UNIT, tn.Float(0.0, 1.0), True),
    "a wider float": (tn.Float(0.0, 2.0), UNIT, True),
    "a wider float, in the logarithm": (tn.Float(1e-5, 10.0, log=True), tn.Float(1e-4, 1.0, log=True), True),
    "a float made log": (tn.Float(0.1, 1.0, log=True), tn.Float(0.1, 1.0), True),
    "a narrower float": (tn.Float(0.0, 0.9), UNIT, False),
    "a float moved": (tn.Float(0.5, 1.5), UNIT, False),
    "a float that got steps": (tn.Float(0.0, 1.0, step=0.5), UNIT, False),
    "a float that lost its steps": (tn.Float(0.0, 1.0), TENTHS, True),
    "finer steps": (tn.Float(0.1, 1.0, step=0.05), TENTHS, True),
    "coarser steps": (tn.Float(0.1, 0.9, step=0.2), TENTHS, False),
    "steps between the others": (tn.Float(0.05, 1.05, step=0.1), TENTHS, False),
    "more steps at both ends": (tn.Float(0.0, 2.0, step=0.1), TENTHS, True),
    "steps from one value": (tn.Float(0.0, 1.0, step=0.5), tn.Float(0.5, 0.5), True),
    "a wider int": (tn.Int(1, 64), tn.Int(8, 32), True),
    "an int made log": (tn.Int(8, 32, log=True), tn.Int(8, 32), True),
    "an int that got steps": (tn.Int(8, 32, step=8), tn.Int(8, 32), False),
    "an int with finer steps": (tn.Int(0, 64, step=4), tn.Int(8, 32, step=8), True),
    "an int with steps that miss": (tn.Int(4, 36, step=8), tn.Int(8, 32, step=8), False),
    "an int made float": (tn.Float(8, 32), tn.Int(8, 32), False),
    "a float made int": (tn.Int(0, 1), UNIT, False),
    "a prior": (tn.Float(0.0, 1.0, prior=tn.Normal(0.5, 0.1)), UNIT, True),
    "a choice more in the middle": (tn.Choice(["a", "c", "b"]), tn.Choice(["a", "b"]), True),
    "a choice less": (tn.Choice(["a"]), tn.Choice(["a", "b"]), False),
    "a choice in place of another": (tn.Choice(["a", "c"]), tn.Choice(["a", "b"]), False),
    "other order": (tn.Choice(["b", "c", "a"]), tn.Choice(["a", "b"]), False),
    "an ordered choice more": (tn.Choice([1, 2, 4, 8], ordered=True), tn.Choice([2, 4], ordered=True), True),
    "lists as options": (tn.Choice([[1, 2], [3], [4]]), tn.Choice([[1, 2], [3]]), True),
    "numbers made a range": (tn.Int(16, 64), tn.Choice([16, 32, 64]), True),
    "numbers outside of a range": (tn.Int(16, 32), tn.Choice([16, 32, 64]), False),
    "words made a range": (tn.Int(16, 32), tn.Choice(["16"]), False),
    "values made labels": (tn.Choice({"a": nn.ReLU, "b": nn.Tanh}), tn.Choice(["a", "b"]), False),
    "labels made values": (tn.Choice(["a", "b"]), tn.Choice({"a": nn.ReLU, "b": nn.Tanh}), False),
    "a label more": (tn.Choice({"b": 1, "c": 2, "a": 3}), tn.Choice({"a": 3, "b": 1}), True),
    "a constant made a float": (tn.Float(0.0, 1.0), tn.Constant(0), True),
    "a constant outside": (tn.Float(0.5, 1.0), tn.Constant(0), False),
    "a constant between steps": (tn.Int(0, 8, step=4), tn.Constant(2), False),
    "a constant made a choice": (tn.Choice([None, 1.0]), tn.Constant(None), True),
    "True is no number": (tn.Int(0, 1), tn.Constant(True), False),
    "1 is not True": (tn.Choice([True, False]), tn.Constant(1), False),
    "a constant made labels": (tn.Choice({"a": nn.ReLU}), tn.Constant("a"), False),
    "a range made a constant": (tn.Constant(0.5), UNIT, False),
    "another constant": (tn.Constant(2), tn.Constant(1), False),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_parameter_contains_an_earlier_one(pair):
    now, before, contained = PAIRS[pair]
    spaces = tn.SearchSpace(x=now), tn.SearchSpace(x=before)
    now, before = (space.root.parts["x"].parameter for space in spaces)
    assert contains(now, before) is contained
    if contained:
        values = [before.from_unit(place / 40) for place in range(41)]
        assert [now.cast(value) for value in values] == values
