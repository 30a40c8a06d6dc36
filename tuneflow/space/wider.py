"""Wider ranges: a parameter whose range goes on beyond one of its ends, as far as its meaning allows."""

import math
from dataclasses import replace
from typing import Any

from tuneflow.space.parameters import Float, Int, Parameter, Range
from tuneflow.space.values import tidy

DECADE = 10.0  # a range on a log axis becomes wider by this factor,
FOUR = 4  # and a whole number's, which is often a size, by this one
HALF = 0.5  # other ranges become wider by this share of their width
SHARES = ("drop", "momentum", "beta", "smoothing", "prob", "share", "fraction", "ratio")  # from 0 to 1 by their names
NEAR_ONE = 0.9  # a share that may be so large has no wider range: what is beyond differs in kind


def wider(name: str, parameter: Parameter, upper: bool) -> Parameter | None:
    """Return a parameter with a wider range; None where the end is a natural one, or the parameter has no range.

    Natural ends are 0 of what is not negative, 1 of shares and probabilities, and 1 of whole numbers. A range on a log
    axis becomes wider by a decade, one of whole numbers by a factor of four, any other by half of its width. A prior
    stays.

    Args:
        name: its dotted name, by which a share is known.
        parameter: as its space has it.
        upper: True for the upper end, False for the lower one.
    """
    if not isinstance(parameter, Float | Int) or parameter.low == parameter.high:
        return None
    end = _above(name, parameter) if upper else _below(parameter)
    if end is None:
        return None
    return with_range(parameter, *((parameter.low, end) if upper else (end, parameter.high)))


def with_range(parameter: Float | Int, low: float, high: float) -> Parameter | None:
    """Return a parameter with another range, and its prior if that is within; None for an empty range, or the same."""
    if not low < high or (low, high) == (parameter.low, parameter.high):
        return None
    prior = parameter.prior if parameter.prior and low <= parameter.prior.mean <= high else None
    bounds: Any = {"low": low, "high": high}
    return replace(parameter, **bounds, prior=prior)


def _above(name: str, parameter: Range) -> float | None:
    low, high = parameter.low, parameter.high
    if isinstance(parameter, Int):
        return round(high * FOUR) if parameter.log else high + _whole_steps(parameter)
    if is_share(name) and low >= 0 and high <= 1:
        return tidy((high + 1) / 2) if high < NEAR_ONE else None
    if parameter.log:
        return tidy(high * DECADE)
    if low >= 0 and high == 1:
        return None
    return tidy(high + _steps(parameter))


def _below(parameter: Range) -> float | None:
    low = parameter.low
    if isinstance(parameter, Int):
        if low in (0, 1):
            return None
        least = 1 if low > 0 else -math.inf
        below = low // FOUR if parameter.log else low - _whole_steps(parameter)
        step = int(parameter.step or 1)
        return below if below >= least else low - (low - 1) // step * step
    if parameter.log:
        return tidy(low / DECADE)
    if low == 0:
        return None
    below = low - _steps(parameter)
    return tidy(below) if low < 0 or below >= 0 else (0.0 if parameter.step is None else None)


def is_share(name: str) -> bool:
    """True for the name of what lies between 0 and 1, such as a probability."""
    last = name.rsplit(".", 1)[-1].lower()
    return last == "p" or any(word in last for word in SHARES)


def _steps(parameter: Range) -> float:
    """Return half of the width, in whole steps where there are some."""
    half = HALF * (parameter.high - parameter.low)
    return half if parameter.step is None else max(1, round(half / parameter.step)) * parameter.step


def _whole_steps(parameter: Range) -> int:
    step = int(parameter.step or 1)
    return max(1, round(HALF * (parameter.high - parameter.low) / step)) * step
