"""Maximize the acquisition: score candidates, and polish the best of them."""

from collections.abc import Collection
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tuneflow.search.gp.feasibility import Acquisition
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.repair import allowed, repaired
from tuneflow.space.coordinates import Array
from tuneflow.space.order_codes import orders_at, reordered, units_of
from tuneflow.space.search_space import SearchSpace

MUTATED = 512
WIDTHS = (0.02, 0.1, 0.3)  # standard deviations of a mutation, in sides of the cube
EXPECTED = 32  # draws from the priors among the candidates, and so many of the others are asked for their prior
POLISHED = 4
BACK = 8  # points between one that where= excludes and one that it allows
REPAIRED = 4  # of the most promising candidates, where the space's where= excludes them,
PAIRS = 256  # changes of two parameters at once that are tried then
ROUNDS = 25  # of L-BFGS
TURNS = 3  # how often labels and numbers are polished in turn


class WeightedAcquisition:
    """An acquisition function over the unit cube, in the logarithm, plus the weighted log priors.

    Args:
        layout: the features of points.
        improvement: the acquisition, as a function of features.
        space: whose priors count.
        weight: the power of the priors; 0 where there are none.

    Source: the power: Hvarfner et al., piBO, ICLR 2022.
    """

    def __init__(self, layout: FeatureMap, improvement: Acquisition, space: SearchSpace, weight: float) -> None:
        self.layout, self.improvement, self.space, self.weight = layout, improvement, space, weight

    def __call__(self, units: Array) -> Array:
        """Value at settled points, shape (m, d): shape (m,)."""
        if not len(units):
            return np.empty(0)
        found = self.improvement(self.layout.features(units))
        return found + self.expected(units) if self.weight else found

    def expected(self, units: Array) -> Array:
        return self.weight * np.array([self.space.log_prior(unit) for unit in units])

    def best(self, units: Array, drawn: int) -> NDArray[np.int64]:
        """Rank candidates, the most promising first; the last `drawn` of them came from the priors."""
        found = self.improvement(self.layout.features(units))
        order = np.argsort(-found, kind="stable")
        if not self.weight:
            return order
        asked = np.union1d(order[: 2 * EXPECTED], np.arange(len(units) - drawn, len(units)))
        found[asked] += self.expected(units[asked])
        return asked[np.argsort(-found[asked], kind="stable")]


class Maximizer:
    """One search for the point with the highest acquisition.

    Args:
        promise: the acquisition.
        tried: keys of configurations that are not to be proposed again.
        rng: the trial's.
    """

    def __init__(self, promise: WeightedAcquisition, tried: Collection[bytes], rng: np.random.Generator) -> None:
        self.promise, self.layout, self.tried, self.rng = promise, promise.layout, tried, rng

    def found(self, spread: Array, leaders: Array) -> Array | None:
        """Return the best point, shape (d,); None where every candidate was tried or is not allowed.

        Args:
            spread: shape (m, d), points all over the cube.
            leaders: shape (k, d), the best configurations so far.
        """
        drawn = self._expected() if self.promise.weight else np.empty((0, len(self.layout.levels)))
        candidates = self._new(self.layout.settled(np.concatenate([spread, self._mutated(leaders), drawn])))
        if not len(candidates):
            return None
        order = self.promise.best(candidates, len(self._new(self.layout.settled(drawn))) if len(drawn) else 0)
        points = self._allowed(candidates[order], POLISHED)
        if self.promise.space.where:
            points = self._with_repaired(points, candidates[order[:REPAIRED]], leaders[0])
        if not len(points):
            return None
        values = self.promise(points)
        for turn in range(TURNS if self.layout.mixed else 1):
            before = values
            points, values = self._changed(points, values)
            if turn and np.all(values <= before):
                break
            points, values = self._moved(points, values)
        return np.asarray(points[np.argmax(values)])

    def _mutated(self, leaders: Array) -> Array:
        """Return copies of the leaders with some coordinates moved a little, or drawn anew where they are labels."""
        rng, dimensions = self.rng, leaders.shape[1]
        rows = leaders[rng.integers(len(leaders), size=MUTATED)]
        rows = np.where(np.isnan(rows), rng.random(rows.shape), rows)
        changed = rng.random(rows.shape) < min(1.0, 2.0 / max(dimensions, 1))
        changed[np.arange(MUTATED), rng.integers(dimensions, size=MUTATED)] = True
        width = np.array(WIDTHS)[rng.integers(len(WIDTHS), size=MUTATED)][:, None]
        width = np.maximum(width, 1.0 / self.layout.levels)
        moved = rows + width * rng.standard_normal(rows.shape)
        moved = np.clip(np.where(self.layout.labels, rng.random(rows.shape), moved), 0.0, 1.0)
        for own in self.layout.orders.values():
            moved[:, own] = self._reordered(rows[:, own], changed[:, own].sum(1))
            changed[:, own] = True
        return np.where(changed, moved, rows)

    def _reordered(self, units: Array, times: NDArray[np.int64]) -> Array:
        """Return orders, by their coordinates, after so many random swaps and moves each."""
        orders = orders_at(units)
        for time in range(times.max(initial=0)):
            orders[times > time] = reordered(orders[times > time], self.rng)
        return units_of(orders)

    def _expected(self) -> Array:
        space, shares = self.promise.space, self.rng.random((EXPECTED, len(self.layout.levels)))
        return np.array([space.quantile(row) for row in shares])

    def _new(self, points: Array) -> Array:
        """Return the untried points, each once, in order."""
        seen = dict(zip(reversed(self.layout.keys(points)), reversed(range(len(points))), strict=True))
        return points[sorted(place for key, place in seen.items() if key not in self.tried)]

    def _allowed(self, points: Array, most: int) -> Array:
        """Return the first `most` points that `where=` allows."""
        space = self.promise.space
        allowed = (point for point in points if space.allows(space.from_unit(point)))
        return np.array(list(islice(allowed, most))).reshape(-1, points.shape[1])

    def _with_repaired(self, points: Array, promising: Array, leader: Array) -> Array:
        """Return allowed points, and the most promising ones of all, repaired where `where=` excludes them."""
        near = [repaired(self.layout, point, self.rng, toward=leader) for point in promising]
        return self._new(np.concatenate([points, near]))

    def _changed(self, points: Array, values: Array) -> tuple[Array, Array]:
        """Improve each point by the best change of one discrete parameter at a time, until none helps.

        Two at a time, some of these changes, where `where=` may tie parameters together.
        """
        points, values = points.copy(), values.copy()
        for row in range(len(points)):
            for _ in range(2 * points.shape[1]):
                around = self._new(self.layout.settled(self._around(points[row])))
                found = self.promise(around)
                better = np.flatnonzero(found > values[row] + 1e-9)
                first = self._allowed(around[better[np.argsort(-found[better], kind="stable")]], 1)
                if not len(first):
                    break
                points[row], values[row] = first[0], self.promise(first)[0]
        return points, values

    def _around(self, point: Array) -> Array:
        moves = self.layout.moves(point)
        if not self.promise.space.where or not len(moves):
            return moves
        one, other = (moves[self.rng.integers(len(moves), size=PAIRS)] for _ in range(2))
        start = np.where(np.isnan(point), 0.5, point)
        return np.concatenate([moves, np.where(one != start, one, other)])

    def _moved(self, points: Array, values: Array) -> tuple[Array, Array]:
        """Improve each point by L-BFGS over its continuous coordinates, where that helps."""
        free = self.layout.smooth & ~np.isnan(points)
        if not free.any():
            return points, values
        moved = self.layout.settled(np.nan_to_num(self._climbed(points, free), nan=0.5))
        if self.promise.space.where:
            moved = np.array([self._back(point, start) for point, start in zip(moved, points, strict=True)])
        new = np.array([key not in self.tried for key in self.layout.keys(moved)])
        found = np.where(new, self.promise(moved), -np.inf)
        better = found > values
        return np.where(better[:, None], moved, points), np.where(better, found, values)

    def _back(self, point: Array, start: Array) -> Array:
        """Return the first allowed point on the line from `point` to `start`, which is allowed."""
        line = np.linspace(point, start, BACK)
        return next(allowed(self.layout, np.where(np.isnan(line), start, line)), start)

    def _climbed(self, points: Array, free: NDArray[np.bool_]) -> Array:
        """Run L-BFGS on all points at once: the sum of their acquisitions has a gradient in each of them."""
        layout, improvement = self.layout, self.promise.improvement
        units = points.copy()

        def loss(flat: Array) -> tuple[float, Array]:
            units[free] = flat
            value, slopes = improvement.slopes(layout.features(units))
            return -float(value.sum()), -slopes[:, layout.column][free]

        bounds = [(0.0, 1.0)] * int(free.sum())
        options = {"maxiter": ROUNDS, "maxls": 10}
        found = minimize(loss, points[free], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        units[free] = np.clip(found.x, 0.0, 1.0)
        return units
