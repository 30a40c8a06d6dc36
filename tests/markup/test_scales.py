"""Scales: ticks are round, within the range and true; scores spread where they differ."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneflow.markup.scales import Axis, LabelAxis, LogAxis, ShareAxis, score_axis
from tuneflow.markup.ticks import linear_ticks

finite = st.floats(-1e12, 1e12)
scores = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12)


def value_of(text):
    return float(text.replace(",", ""))


@given(finite, st.floats(1e-9, 1e9), st.integers(1, 9))
def test_linear_ticks_are_few_and_within_the_range(low, width, most):
    high = low + width
    ticks = linear_ticks(low, high, most) if high > low else []
    assert len(ticks) <= most
    assert all(low - 1e-6 * width <= value <= high + 1e-6 * width for value, _ in ticks)


@given(st.floats(-6, 2), st.floats(0.1, 8), st.integers(2, 8))
def test_texts_of_log_ticks_are_their_values(power, decades, most):
    ticks = LogAxis(10**power, 10 ** (power + decades)).ticks(most)
    assert 1 <= len(ticks) <= most
    assert [value_of(text) for _, text in ticks] == pytest.approx([value for value, _ in ticks], rel=0.01)


@given(scores, st.booleans())
def test_every_score_has_a_position_and_better_ones_are_not_on_the_worse_side(values, maximize):
    axis = score_axis(values, maximize)
    ordered = sorted(value for value in values if not math.isnan(value))
    positions = [axis.position(value) for value in ordered]
    assert all(0 <= position <= 1 for position in positions)
    assert all(a <= b + 1e-9 for a, b in pairwise(positions))
    assert all(text for _, text in axis.ticks())


@pytest.mark.parametrize(
    ("values", "maximize", "kind"),
    [
        ([0.5, 0.9, 0.99], True, ShareAxis),
        ([0.1, 0.2, 0.5], True, Axis),
        ([0.5, 2.0, 90.0], True, Axis),
        ([0.01, 0.5, 3.0], False, LogAxis),
        ([0.5, 0.6], False, Axis),
        ([-1.0, 3.0, 99.0], False, Axis),
        ([0.0, 0.0], False, Axis),
    ],
)
def test_scale_of_scores_follows_their_range(values, maximize, kind):
    assert type(score_axis(values, maximize)) is kind


def test_shares_have_ticks_in_the_words_of_the_metric_at_equal_distances():
    axis = ShareAxis(0.0, 0.9995)
    ticks = dict(axis.ticks(9))
    assert {"0.9", "0.99", "0.999"} <= set(ticks.values())
    steps = [axis.position(share) for share in (0.9, 0.99, 0.999)]
    assert steps[1] - steps[0] == pytest.approx(steps[2] - steps[1])


def test_one_score_that_is_far_worse_leaves_the_others_apart():
    axis = score_axis([1.0, 2.0, 3.0, 4.0, -1e6], maximize=True)
    assert axis.position(-1e6) == 0
    assert axis.position(4.0) - axis.position(1.0) > 0.5


def test_labels_keep_their_order_and_have_a_part_each():
    axis = LabelAxis(["small", "medium", "large"])
    assert axis.ticks() == [(0.0, "small"), (1.0, "medium"), (2.0, "large")]
    assert [axis.position(place) for place in range(3)] == pytest.approx([1 / 6, 1 / 2, 5 / 6])
