"""Scales: values to positions along an axis, linear, logarithmic, by the error of a share, or by label."""

import math
from collections.abc import Iterable, Sequence
from copy import copy

from typing_extensions import override

from tuneflow.markup.ticks import Tick, linear_ticks, log_ticks, share_ticks

FENCE = 4.0  # a value that is so many times the middle half's width worse than it does not widen a scale
WIDE = 20.0  # a loss that varies by this factor is shown on a log scale
HUGE, TINY = 1e280, 1e-280  # beyond, a number is as good as infinite or 0
GOOD = 0.8  # shares whose best is above are shown by their error


class Axis:
    """A linear scale.

    Args:
        low: the value at position 0.
        high: the value at position 1; may be below `low`.
        whole: whole numbers only have ticks.
    """

    def __init__(self, low: float, high: float, whole: bool = False) -> None:
        self.low, self.high, self.whole = float(low), float(high), whole

    def position(self, value: float) -> float:
        """Return the position of a value, from 0 to 1; beyond the ends it is the end, for NaN the lower one."""
        start, end, at = self.measure(self.low), self.measure(self.high), self.measure(float(value))
        share = (at - start) / (end - start) if end != start else 0.5
        return min(1.0, max(0.0, share)) if share == share else 0.0

    def measure(self, value: float) -> float:
        """Return what the positions are proportional to."""
        return value

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return values within the range with their texts, `most` at most."""
        low, high = self.ends
        return linear_ticks(low, high, most, self.whole) if low < high else [(low, f"{low:g}")]

    @property
    def flipped(self) -> "Axis":
        """The same scale from the other end."""
        other = copy(self)
        other.low, other.high = self.high, self.low
        return other

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return min(self.low, self.high), max(self.low, self.high)


class LogAxis(Axis):
    """A logarithmic scale, from `low` to `high`, both above 0; a value that is not is at the lower end."""

    @override
    def measure(self, value: float) -> float:
        return math.log(max(value, 0.5 * min(self.low, self.high)))

    @override
    def ticks(self, most: int = 6) -> list[Tick]:
        low, high = self.ends
        return log_ticks(low, high, most) if low < high else super().ticks(most)


class ShareAxis(Axis):
    """A scale for shares, by the logarithm of the error, so that 0.9, 0.99 and 0.999 are equally far apart.

    Args:
        low: the share at position 0, below 1.
        high: the share at position 1, below 1.
    """

    @override
    def measure(self, value: float) -> float:
        return -math.log(max(1 - value, 0.5 * (1 - max(self.low, self.high))))

    @override
    def ticks(self, most: int = 6) -> list[Tick]:
        low, high = self.ends
        return share_ticks(1 - low, 1 - high, most) if low < high else super().ticks(most)


class LabelAxis(Axis):
    """A scale of labels, each in the middle of a part of the axis, in their order; values are their indices."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(-0.5, len(labels) - 0.5, whole=True)
        self.labels = labels

    @override
    def ticks(self, most: int = 6) -> list[Tick]:
        every = math.ceil(len(self.labels) / most)
        return [(float(place), label) for place, label in enumerate(self.labels)][::every]


def axis_of(values: Iterable[float], whole: bool = False) -> Axis:
    """Return a linear scale with room for all values that are finite, and a little more."""
    finite = [min(HUGE, max(-HUGE, value)) for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    size = max(abs(low), abs(high))
    room = 0.05 * (high - low) if high - low > 1e-9 * size > 0 else 0.1 * size
    room = room if room > TINY else 1.0
    return Axis(low - room, high + room, whole)


def log_axis_of(values: Iterable[float]) -> Axis:
    """Return a logarithmic scale with room for all finite values above 0, and a little more."""
    logs = [math.log(min(HUGE, max(TINY, value))) for value in values if 0 < value < math.inf]
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5
    return LogAxis(math.exp(low - room), math.exp(high + room))


def score_axis(values: Iterable[float], maximize: bool) -> Axis:
    """Return the scale on which scores are told apart.

    Shares whose best is above 0.8 are shown by their error, losses that vary by more than a factor of 20 by their
    logarithm. A few scores that are far worse than all others are at the edge.

    Args:
        values: scores; those that are not finite are left out.
        maximize: True if larger is better.
    """
    finite = _fenced(sorted(float(value) for value in values if math.isfinite(value)), maximize)
    if not finite:
        return Axis(0.0, 1.0)
    low, high = finite[0], finite[-1]
    if maximize and low >= 0 and GOOD <= high <= 1:
        return _share_axis(finite)
    if not maximize and high > WIDE * low >= 0 and any(value > 0 for value in finite):
        return log_axis_of(finite)
    return axis_of(finite)


def _share_axis(shares: Sequence[float]) -> Axis:
    """Return a scale of sorted shares; those of exactly 1 are half the least error of the others from it."""
    errors = [1 - share for share in shares if share < 1] or [0.001]
    errors += [0.5 * min(errors)] if shares[-1] == 1 else []
    ends = axis_of(map(math.log, errors))
    return ShareAxis(1 - min(1.0, math.exp(ends.high)), 1 - math.exp(ends.low))


def _fenced(scores: Sequence[float], maximize: bool) -> Sequence[float]:
    """Return sorted scores without those that are far worse than the middle half of them."""
    if len(scores) < 4:
        return scores
    low, high = scores[len(scores) // 4], scores[-1 - len(scores) // 4]
    fence = FENCE * (high - low)
    if not fence:
        return scores
    if maximize:
        return [score for score in scores if score >= low - fence]
    return [score for score in scores if score <= high + fence]
