"""Slopes of the scores at the ends of parameters' ranges, with their uncertainty."""

import numpy as np
from numpy.typing import NDArray

from tuneflow.space.coordinates import Array

Flags = NDArray[np.bool_]

RIDGE = 0.3  # on the columns' scale: it decides only where there are hardly more trials than columns
FREEDOM = 1 / 3  # of the trials that have to be left as degrees of freedom, or parameters are looked at one by one


def edge_slopes(units: Array, quality: Array, numbers: Flags, labels: Flags) -> Array:
    """Return by how many standard errors the scores improve from inside a range towards each of its ends.

    A parabola in every number and a constant for each label are fitted to normal scores of ranks, all at once, or where
    the trials are few one by one. So trials that crowd somewhere, as a searcher has them, do not count for more than
    the slope that they show.

    Args:
        units: shape (n, d), in [0, 1]; NaN where not active.
        quality: shape (n,), lower is better.
        numbers: shape (d,), True for numbers.
        labels: shape (d,), True for labels.

    Returns:
        Shape (d, 2), for the lower and the upper end; 0 where a coordinate is no number.
    """
    blocks = [_block(column, bool(number)) for column, number in zip(units.T, numbers, strict=True)]
    used = numbers | labels
    whole = np.concatenate(
        [block for block, use in zip(blocks, used, strict=True) if use] or [np.empty((len(units), 0))], axis=1
    )
    slopes = np.zeros((units.shape[1], 2))
    together = _Fit(whole, quality)
    starts = np.cumsum([0, *(block.shape[1] if use else 0 for block, use in zip(blocks, used, strict=True))])
    for place in np.flatnonzero(numbers):
        enough = together.freedom >= FREEDOM * len(units)
        fit, start = (together, starts[place]) if enough else (_Fit(blocks[place], quality), 0)
        slopes[place] = [fit.improvement(start, end) for end in (-1.0, 1.0)]
    return slopes


def _block(units: Array, number: bool) -> Array:
    """Return a coordinate's columns, 0 where not active: a centered parabola's terms, or an indicator of each value."""
    centered = 2 * units - 1
    if number:
        columns = np.stack([centered, centered**2 - 1 / 3], axis=1)
    else:
        values = np.unique(units[~np.isnan(units)])
        columns = (units[:, None] == values).astype(float)
    return np.asarray(np.nan_to_num(columns, nan=0.0))


class _Fit:
    """A ridge regression with an intercept.

    Args:
        columns: shape (n, k).
        quality: shape (n,).

    Attributes:
        freedom: degrees of freedom that are left.
    """

    def __init__(self, columns: Array, quality: Array) -> None:
        design = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
        penalty = np.full(design.shape[1], RIDGE)
        penalty[0] = 1e-9
        self._inverse = np.linalg.inv(design.T @ design + np.diag(penalty))
        self._weights = self._inverse @ design.T @ quality
        self.freedom = len(design) - float(np.sum((design @ self._inverse) * design))
        rest = quality - design @ self._weights
        self._variance = float(rest @ rest) / max(self.freedom, 1.0)

    def improvement(self, start: int, end: float) -> float:
        """Return the standardized slope of a parabola whose terms begin at column `start`, outwards at -1 or 1."""
        outwards = np.zeros(len(self._weights))
        outwards[start + 1], outwards[start + 2] = end, 2.0
        error = np.sqrt(max(self._variance * float(outwards @ self._inverse @ outwards), 1e-300))
        return float(-(outwards @ self._weights) / error)
