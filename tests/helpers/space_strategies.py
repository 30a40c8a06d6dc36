"""Hypothesis strategies for tuneflow's own objects: parameters, spaces, and points in them."""

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import nn

import tuneflow as tn

laws = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever the load

seeds = st.integers(-(10**30), 10**30)
names = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="."), min_size=1)
names = names.filter(lambda name: len(name) <= 100 and name != "where")

# Values that JSON knows. Whole floats are left out: 1 and 1.0 are the same option.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
    | st.text(max_size=5)
)
plain = scalars | st.tuples(st.integers(1, 9), st.integers(1, 9))
objects = st.sampled_from([nn.ReLU, nn.Tanh, print, len, None, True, 3, 0.5, "text", [1, 2]])


@st.composite
def floats(draw):
    """Continuous Floats, even or logarithmic, a few of them constant; wide enough that grid points are distinct."""
    if draw(st.booleans()):
        low = draw(st.floats(1e-9, 1e6))
        return tn.Float(low, low * draw(st.just(1.0) | st.floats(1.1, 1e12)), log=True)
    low = draw(st.floats(-1e6, 1e6))
    return tn.Float(low, low + draw(st.just(0.0) | st.floats(1e-2, 1e6)))


@st.composite
def stepped_floats(draw):
    step, first, count = (
        draw(st.sampled_from([0.01, 0.1, 0.25, 3.0])),
        draw(st.integers(-50, 50)),
        draw(st.integers(0, 50)),
    )
    return tn.Float(round(first * step, 9), round((first + count) * step, 9), step=step)


@st.composite
def ints(draw):
    kind, width = draw(st.sampled_from(["plain", "log", "step"])), draw(st.integers(0, 9) | st.integers(0, 2**40))
    if kind == "log":
        low = draw(st.integers(1, 2**20))
        return tn.Int(low, low + width, log=True)
    low, step = draw(st.integers(-(2**40), 2**40)), draw(st.integers(1, 1000)) if kind == "step" else None
    return tn.Int(low, low + width * (step or 1), step=step)


plain_choices = st.builds(tn.Choice, st.lists(plain, min_size=1, max_size=6, unique_by=repr), ordered=st.booleans())
labeled_choices = st.builds(tn.Choice, st.dictionaries(names, objects, min_size=1, max_size=4))
discrete = stepped_floats() | ints() | plain_choices | labeled_choices
parameters = floats() | discrete
constants = scalars | st.builds(tn.Constant, plain)


def calls(entries):
    """`tn.call(dict, ...)`: called, the partial that it resolves to gives its settings back."""
    return st.dictionaries(names, entries, max_size=3).map(lambda arguments: tn.call(dict, **arguments))


def nested(leaves):
    """Entries of a space: leaves, sections, nested spaces, calls, and conditional choices among them."""

    def deeper(entries):
        section = st.dictionaries(names, entries, max_size=3)
        space = section.map(lambda parts: tn.SearchSpace(**parts))
        options = st.dictionaries(names, objects | calls(entries) | space, min_size=1, max_size=3)
        return section | space | calls(entries) | options.map(tn.Choice)

    return st.recursive(leaves, deeper, max_leaves=6)


def spaces_of(leaves, most=4):
    return st.dictionaries(names, nested(leaves), max_size=most).map(lambda entries: tn.SearchSpace(**entries))


spaces = spaces_of(parameters | constants)
discrete_spaces = spaces_of(discrete | constants)
flat_spaces = st.dictionaries(names, parameters, min_size=1, max_size=4).map(lambda entries: tn.SearchSpace(**entries))


@st.composite
def points(draw, among=spaces):
    """(space, a point of its unit cube), the corners among them."""
    space = draw(among)
    unit = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
    return space, np.array(draw(st.lists(unit, min_size=len(space), max_size=len(space))), dtype=float)
