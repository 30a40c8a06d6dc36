"""Mixture priors: a density around some points of the unit cube, as priors for a space."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tuneflow.search.normal import ndtr
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.priors import Curve, Steps
from tuneflow.space.search_space import SearchSpace

CELLS = 64
KEPT = 0.7  # of a label's kernel, the mass that stays on the label


class Mixture:
    """One kernel around each point, plus a uniform share over the whole cube.

    A kernel is a product over the coordinates: a normal density for a number, most of the mass on the label for a
    Choice, uniform where the point is NaN. The mixture is not a product, so it keeps which values occur together. It is
    factored coordinate by coordinate, each conditional on those before it.

    Args:
        space: whose unit cube this is on.
        points: shape (n, d), NaN where unknown or not active.
        weights: shape (n,), of the kernels; their sum is at most 1, the rest is uniform.
        width: standard deviation of the normal densities, in sides of the cube; a cell where that is wider.
    """

    def __init__(self, space: SearchSpace, points: Array, weights: Array, width: float) -> None:
        self._axes = Coordinates(space)
        own = [place for place, axis in enumerate(space.coordinates) if axis.parameter.curve is not None]
        self._order = own + [place for place in range(len(space)) if place not in own]
        self._free = self._order[len(own) :]
        self._weights = np.append(weights, 1 - weights.sum())
        self._cells = [int(levels) if levels <= CELLS else CELLS for levels in self._axes.levels]
        self._tables = [self._table(points[:, place], place, width) for place in range(len(space))]
        self._labels = {
            (parent, label): space.coordinates[parent].parameter.to_unit(label)
            for axis in space.coordinates
            for parent, label in axis.needs
        }
        self._known: tuple[tuple[float, ...], dict[int, Array]] = ((), {})

    def priors(self) -> Mapping[int, Callable[[Sequence[float]], Curve]]:
        """Return priors for `SearchSpace.expecting`: of every coordinate for which the user gave none."""
        return {place: self._prior(place) for place in self._free}

    def _prior(self, place: int) -> Callable[[Sequence[float]], Curve]:
        return lambda units: _Conditional(self._given(place, units), self._tables[place])

    def _given(self, place: int, units: Sequence[float]) -> Array:
        """Return the kernels' weights, shape (n + 1,), conditional on the coordinates before `place`."""
        key = tuple(units)
        if self._known[0] != key:
            self._known = key, self._all_given(key)
        return self._known[1][place]

    def _all_given(self, units: tuple[float, ...]) -> dict[int, Array]:
        weights, given = self._weights, {}
        for place in self._order:
            given[place] = weights / weights.sum()
            unit, count = units[place], self._cells[place]
            if unit == unit and self._active(place, units):
                weights = weights * self._tables[place][:, min(int(unit * count), count - 1)] * count
        return given

    def _active(self, place: int, units: tuple[float, ...]) -> bool:
        needs = self._axes.space.coordinates[place].needs
        return all(
            abs(units[parent] - self._labels[parent, label]) < 0.5 / self._cells[parent] for parent, label in needs
        )

    def _table(self, centers: Array, place: int, width: float) -> NDArray[np.float64]:
        """Return each kernel's mass in each cell of a coordinate, shape (n + 1, cells); the last kernel is uniform."""
        count = self._cells[place]
        table = np.full((len(centers) + 1, count), 1 / count)
        for row, center in enumerate(centers):
            if center != center or count == 1:
                continue
            if self._axes.labels[place]:
                table[row] = (1 - KEPT) / count
                table[row, min(int(center * count), count - 1)] += KEPT
                continue
            edges = ndtr((np.linspace(0, 1, count + 1) - center) / max(width, 1 / self._axes.levels[place]))
            table[row] = np.diff(edges) / (edges[-1] - edges[0])
        return table


class _Conditional(Curve):
    """The density of one coordinate under kernels of these weights, shape (n,), and masses, shape (n, cells)."""

    def __init__(self, weights: Array, masses: Array) -> None:
        self._weights, self._masses = weights, masses

    def density(self, place: float) -> float:
        count = self._masses.shape[1]
        return float((self._weights @ self._masses[:, min(int(place * count), count - 1)]) * count)

    def quantile(self, share: float) -> float:
        return Steps((self._weights @ self._masses).tolist()).quantile(share)
