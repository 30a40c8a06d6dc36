"""Coordinates: a space's axes as arrays, for searchers that work on many points of the unit cube at once."""

import math

import numpy as np
from numpy.typing import NDArray

from tuneflow.space.parameters import Choice, Float, Int
from tuneflow.space.permutation import Permutation
from tuneflow.space.priors import Curve
from tuneflow.space.search_space import SearchSpace

Array = NDArray[np.float64]
Places = NDArray[np.intp]


class Coordinates:
    """The kinds and cells of a space's coordinates, as arrays.

    Attributes:
        labels: shape (d,), True for a Choice without an order.
        numbers: shape (d,), True for a number, or an ordered Choice, with more than one value.
        levels: shape (d,), number of values; `inf` where continuous.
        heads: shape (d,), True for the first coordinate of a parameter; only a Permutation has more.
        orders: the coordinates of each Permutation, by the first of them.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        parameters = [axis.parameter for axis in space.coordinates]
        self.labels = np.array([isinstance(p, Choice) and not p.ordered for p in parameters], dtype=bool)
        self.levels = np.array([_levels(p) for p in parameters])
        self.heads = np.array([not axis.digit for axis in space.coordinates], dtype=bool)
        wholes = ((at, space.coordinates[at].whole) for at in space.parameters.values())
        self.orders = {at: slice(at, at + whole.width) for at, whole in wholes if isinstance(whole, Permutation)}
        self.numbers = ~self.labels & (self.levels > 1)
        self._even = np.isfinite(self.levels)
        self._logs: list[tuple[int, Int]] = []
        for place, p in enumerate(parameters):
            if isinstance(p, Int) and p.log and p.low < p.high:
                self._even[place] = False
                self._logs.append((place, p))
        self._needs = [
            (place, parent, parameters[parent].to_unit(label))
            for place, axis in enumerate(space.coordinates)
            for parent, label in axis.needs
        ]

    def chances(self, place: int) -> Array:
        """Return the prior probability of each option of a Choice."""
        parameter, count = self.space.coordinates[place].parameter, int(self.levels[place])
        curve = parameter.curve or Curve()
        return np.array([curve.density((option + 0.5) / count) / count for option in range(count)])

    def able(self, unit: Array) -> Places:
        """Return the first coordinates of the parameters that are active at a point and have more than one value."""
        return np.flatnonzero(self.heads & ~np.isnan(unit) & (self.levels > 1))

    def values(self, place: int) -> Array:
        """Return the middles of all cells of a coordinate with a finite number of values, rising."""
        for log, p in self._logs:
            if log == place:
                return np.array([p.to_unit(value) for value in range(p.low, p.high + 1)])
        return np.asarray((np.arange(self.levels[place]) + 0.5) / self.levels[place])

    def cells(self, units: Array) -> tuple[Array, Array]:
        """Return the ends of the intervals that stand for the same value as `units`, shape (n, d); NaN stays.

        For a continuous coordinate both ends are the point itself.
        """
        low, high = units.copy(), units.copy()
        levels = self.levels[self._even]
        place = np.minimum(np.floor(units[:, self._even] * levels), levels - 1)
        low[:, self._even], high[:, self._even] = place / levels, (place + 1) / levels
        for axis, p in self._logs:
            left, right = math.log(p.low - 0.5), math.log(p.high + 0.5)
            value = np.clip(np.round(np.exp(left + units[:, axis] * (right - left))), p.low, p.high)
            low[:, axis] = (np.log(value - 0.5) - left) / (right - left)
            high[:, axis] = (np.log(value + 0.5) - left) / (right - left)
        return low, high

    def settled(self, units: Array) -> Array:
        """Return `units`, shape (n, d), as the space maps them back: in the middle of cells, NaN where not active."""
        low, high = self.cells(units)
        settled: Array = (low + high) / 2
        for place, parent, label in self._needs:
            settled[np.abs(settled[:, parent] - label) > 1e-9, place] = np.nan
            settled[np.isnan(settled[:, parent]), place] = np.nan
        return settled

    def among(self, units: Array, unit: Array) -> bool:
        """True if a point, shape (d,), has the values of one of `units`, shape (n, d)."""
        return bool(len(self.same(units, unit)))

    def same(self, units: Array, unit: Array) -> Places:
        """Return the indices of those `units`, shape (n, d), that have the values of a point, shape (d,)."""
        same = (np.abs(units - unit) < 1e-9) | (np.isnan(units) & np.isnan(unit))
        return np.flatnonzero(same.all(1))


def _levels(parameter: object) -> float:
    """Return the number of values; with more than a million the parameter counts as continuous."""
    levels = parameter.levels if isinstance(parameter, Float | Int | Choice) else math.inf
    return float(levels) if levels <= 1_000_000 else math.inf
