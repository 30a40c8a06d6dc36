"""A regression of trials' ranks on their settings, each parameter by itself, for the rules that ask for its effect."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tuneflow.analysis.ranked_trials import RankedTrials
from tuneflow.space.coordinates import Array, Coordinates

RIDGE = 0.3  # on the columns' scale: it decides only where there are hardly more trials than columns
FREEDOM = 1 / 3  # of the trials that have to be left as degrees of freedom
ONE_SIDED = 1.64  # standard deviations of a normal distribution's 95 % bound


class AdditiveFit:
    """A parabola in every number and a constant for each label, fitted all at once to normal scores of ranks.

    It is about the slopes that the trials show and not about where they are, so that a searcher may have crowded them
    anywhere.

    Args:
        ranked: the trials.
        kinds: the coordinates of their space.

    Attributes:
        able: True where enough degrees of freedom are left.
    """

    def __init__(self, ranked: RankedTrials, kinds: Coordinates) -> None:
        blocks = [_columns(units, bool(number)) for units, number in zip(ranked.units.T, kinds.numbers, strict=True)]
        ends = 1 + np.cumsum([0, *(block.shape[1] for block in blocks)])
        self._places = [np.arange(*pair) for pair in pairwise(ends)]
        design = np.concatenate([np.ones((len(ranked), 1)), *blocks], axis=1)
        penalty = np.full(design.shape[1], RIDGE)
        penalty[0] = 1e-9
        self._inverse = np.linalg.inv(design.T @ design + np.diag(penalty))
        self._weights = self._inverse @ design.T @ ranked.quality
        freedom = len(design) - float(np.sum((design @ self._inverse) * design))
        rest = ranked.quality - design @ self._weights
        self._variance = max(float(rest @ rest) / max(freedom, 1.0), 1e-12)
        self._total = max(float(np.square(ranked.quality - ranked.quality.mean()).sum()), 1e-12)
        self.able = freedom >= FREEDOM * len(design)

    def improvement(self, place: int, upper: bool) -> float:
        """Return by how many standard errors scores improve from inside a number's range towards one of its ends."""
        linear, square = self._places[place]
        outwards = np.zeros(len(self._weights))
        outwards[linear], outwards[square] = 1.0 if upper else -1.0, 2.0
        error = np.sqrt(self._variance * float(outwards @ self._inverse @ outwards))
        return float(-(outwards @ self._weights) / error)

    def effect(self, place: int) -> tuple[float, float]:
        """Return F, the effect of a coordinate relative to noise, and the upper 95 % bound of its share of all."""
        own = self._places[place]
        if not len(own):
            return 0.0, 0.0
        weights = self._weights[own]
        raw = float(weights @ np.linalg.solve(self._inverse[np.ix_(own, own)], weights)) / self._variance
        excess = max(0.0, raw - len(own))
        bound = excess + ONE_SIDED * np.sqrt(2 * len(own) + 4 * excess)
        return raw / len(own), float(bound * self._variance / self._total)


def _columns(units: NDArray[np.float64], number: bool) -> Array:
    """Return a coordinate's columns, 0 where not active: a centered parabola's terms, or an indicator of each value."""
    centered = 2 * units - 1
    if number:
        columns = np.stack([centered, centered**2 - 1 / 3], axis=1)
    else:
        columns = (units[:, None] == np.unique(units[~np.isnan(units)])[1:]).astype(float)
    return np.asarray(np.nan_to_num(columns, nan=0.0))
