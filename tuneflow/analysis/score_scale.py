"""ScoreScale: costs on a scale that a few very bad ones do not stretch, for a model, and back."""

import numpy as np

from tuneflow.space.coordinates import Array

BEND = 2.0  # spreads of the better half beyond the median from which on distances count by their logarithm
FAR = 3.0  # failures are at least so many spreads beyond it
FARTHEST = 1e15  # distances in spreads, at most
HUGE = 1e300  # costs, at most


class ScoreScale:
    """A rising map of costs to values with mean 0 and standard deviation 1, and its inverse.

    Costs up to BEND spreads of the better half beyond the median keep their distances; beyond, the logarithm of the
    distance counts. Failures come last, beyond the worst.

    Args:
        costs: shape (n,), lower is better; inf for failures. At least one is finite.
        weights: shape (n,), the share of the search space that each stands for, in any unit.
    """

    def __init__(self, costs: Array, weights: Array) -> None:
        costs = np.where(np.isfinite(costs), np.clip(costs, -HUGE, HUGE), np.inf)
        finite = costs[np.isfinite(costs)]
        self.middle = min(weighted_median(costs, weights), float(finite.max()))
        better = costs <= self.middle
        spread = _rms(costs[better] - self.middle, weights[better])
        self.spread = spread or _rms(finite - self.middle, np.ones(len(finite))) or 1.0
        self._failed = max(FAR, float(_bent(self._beyond(finite)).max())) + 1
        away = self._away(costs)
        self._mean = float(np.average(away, weights=weights))
        self._sd = _rms(away - self._mean, weights) or 1.0

    def compress(self, costs: Array) -> Array:
        """Return the values of costs, inf included."""
        return np.asarray((self._away(costs) - self._mean) / self._sd)

    def slopes(self, costs: Array) -> Array:
        """Return the derivatives of `compress` at costs, 0 for failures; HUGE at most."""
        steepest = 1 / max(self.spread * self._sd, 1 / HUGE)
        return np.asarray(steepest / (1 + np.maximum(self._beyond(costs) - BEND, 0.0)))

    def expand(self, values: Array) -> Array:
        """Return the costs that values stand for; at most those of failures."""
        return np.clip(self.middle + self.spread * self.distances(values), -HUGE, HUGE)

    def distances(self, values: Array) -> Array:
        """Return the distances of these costs beyond the median, in spreads of the better half."""
        away = np.minimum(values * self._sd + self._mean, self._failed)
        beyond = np.maximum(away - BEND, 0.0)
        return np.asarray(away - beyond + np.expm1(beyond))

    def _away(self, costs: Array) -> Array:
        return np.where(np.isfinite(costs), _bent(self._beyond(costs)), self._failed)

    def _beyond(self, costs: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.clip((costs - self.middle) / self.spread, -FARTHEST, FARTHEST)


def weighted_median(values: Array, weights: Array) -> float:
    """Return the value at which half of the weights are reached, in rising order.

    Example:
        >>> weighted_median(np.array([1.0, 2.0, 5.0]), np.array([1.0, 1.0, 8.0]))
        5.0
    """
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def _bent(away: Array) -> Array:
    beyond = np.maximum(away - BEND, 0.0)
    return np.asarray(away - beyond + np.log1p(beyond))


def _rms(away: Array, weights: Array) -> float:
    """Return the root of the mean square; 0 for no weight at all."""
    largest = float(np.abs(away).max(initial=0.0))  # of which the square may be too large, or too small, for a number
    if not largest or not weights.any():
        return 0.0
    return largest * float(np.sqrt(np.average(np.square(away / largest), weights=weights)))
