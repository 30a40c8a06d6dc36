"""Scores made fit for a Gaussian process: their worse half by rank, and distances to the best in the logarithm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

JUST = 0.1  # how far below the best the logarithm has its pole, in spreads of the better half
NOISE = 2.0  # and how many standard errors more: where scores are noisy the logarithm is nearly a line
CLEAN = 0.1  # standard errors up to this many spreads are no reason to try a configuration again


@dataclass(frozen=True)
class Targets:
    """What the model is given in the place of costs.

    Attributes:
        values: shape (n,), mean 0 and standard deviation 1, lower is better.
        variances: shape (n,), of the known errors of `values`; 0 where none is known.
        clean: whether the errors are too small to matter.
    """

    values: Array
    variances: Array
    clean: bool


def targets(costs: Array, errors: Array, just: float = JUST) -> Targets:
    """Costs as targets for a Gaussian process.

    The better half keeps its distances. The worse half keeps its order only, and goes where the upper half of a normal
    distribution of the better half's spread would have it; failures come last. Then each becomes the logarithm of its
    distance to a point just below the best: what matters is by what factor a configuration is worse, not by how much.
    That point lies lower the larger the errors are.

    Args:
        costs: shape (n,), lower is better; inf for failures. At least one is finite.
        errors: shape (n,), standard errors of `costs`; NaN where not known.

    Source: the half by rank: Song et al., The Vizier Gaussian process bandit algorithm, 2024.
    """
    from scipy.special import ndtri

    finite = np.isfinite(costs)
    known = costs[finite]
    middle = np.median(known)
    spread = np.sqrt(np.mean(np.square(known[known <= middle] - middle))) or np.std(known) or 1.0
    values = np.where(finite, (costs - middle) / spread, 0.0)
    worse = ~finite | (costs > middle)
    values[worse] = ndtri(0.5 + 0.5 * (_ranks(costs[worse]) + 0.5) / max(worse.sum(), 1))
    errors = np.where(np.isfinite(errors) & finite, errors, 0.0) / spread
    usual = float(np.median(errors[finite & (costs <= middle)]))
    above = values - values.min() + just + NOISE * usual
    values, errors = np.log(above), errors / above
    scale = np.std(values) or 1.0
    return Targets((values - values.mean()) / scale, np.square(errors / scale), usual <= CLEAN)


def _ranks(values: Array) -> Array:
    """The rank of each value from 0; the mean rank of equals."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (first + last - 1) / 2
