"""Targets: costs transformed for a Gaussian process, bad ones compressed, those close to the best stretched."""

from dataclasses import dataclass

import numpy as np

from tuneflow.search.normal import ndtri
from tuneflow.space.coordinates import Array

JUST = 0.1  # how far below the best the logarithm has its pole, in spreads of the better half
NOISE = 2.0  # and how many standard errors more
CLEAN = 0.1  # standard errors up to so many spreads are small
LOUD = 1e6  # standard errors count as so many spreads, at most: such a score says nothing
BEND = 2.0  # spreads of the better half beyond its median from which on distances count by their logarithm
FARTHEST = 1e300  # breaches count as so many units, at most
SHARP = 10.0  # breaches up to so many times those of the nearer half are kept nearly as they are


@dataclass(frozen=True)
class Targets:
    """Standardized targets for the model, with their error variances.

    Attributes:
        values: shape (n,), mean 0 and standard deviation 1, lower is better.
        variances: shape (n,), of the known errors of `values`; 0 where none is known.
        error: the usual one of `variances` in the better half; 0 where the errors are too small to matter.
    """

    values: Array
    variances: Array
    error: float


def targets(costs: Array, errors: Array, just: float = JUST) -> Targets:
    """Transform costs for the GP: compress bad ones, stretch those close to the best.

    The better half keeps its distances, in units of its spread. Where scores are clean, the worse half keeps only its
    order, and is mapped to the upper half of a normal distribution. Then each value becomes the logarithm of its
    distance to a point just below the best, lower the larger the errors are: the factor by which a configuration is
    worse matters, not the difference.

    Where errors are a tenth of the spread or more, an order would be luck, and so would the distance to the best. There
    the better half stays as it is, and the worse half has the logarithm of its distance to the median.

    Failures come last, beyond the worst.

    Args:
        costs: shape (n,), lower is better; inf for failures. At least one is finite.
        errors: shape (n,), standard errors of `costs`; NaN where not known.
        just: distance of that point below the best, in spreads of the better half.

    Source: the half by rank: Song et al., The Vizier Gaussian process bandit algorithm, 2024.
    """
    finite = np.isfinite(costs)
    known = costs[finite]
    middle = np.median(known)
    spread = np.sqrt(np.mean(np.square(known[known <= middle] - middle))) or np.std(known) or 1.0
    values = np.where(finite, costs - middle, 0.0) / spread
    errors = np.minimum(np.where(np.isfinite(errors) & finite, errors, 0.0) / spread, LOUD)
    usual = float(np.median(errors[finite & (costs <= middle)]))
    clean = usual <= CLEAN
    worse = ~finite | (costs > middle)
    if clean:
        values[worse] = _upper_half(costs[worse])
        above = values - values.min() + just + NOISE * usual
        values, errors = np.log(above), errors / above
    else:
        errors /= 1 + np.maximum(values, 0.0)
        values[worse] = np.log1p(values[worse])
        values[~finite] = values.max() + 1
    scale = np.std(values) or 1.0
    error = 0.0 if clean else float(np.square(usual / scale))
    return Targets((values - values.mean()) / scale, np.square(errors / scale), error)


def front_targets(costs: Array, errors: Array) -> Targets:
    """Transform costs of one objective among several, or under limits: compress bad ones only.

    Good trade-offs may lie anywhere in each cost, so nothing is stretched as in `targets`. Failures come last, beyond
    the worst.

    Args:
        costs: shape (n,), lower is better; inf for failures. At least one is finite.
        errors: shape (n,), standard errors of `costs`; NaN where not known.
    """
    finite = np.isfinite(costs)
    known = costs[finite]
    middle = np.median(known)
    spread = np.sqrt(np.mean(np.square(known[known <= middle] - middle))) or np.std(known) or 1.0
    values = np.where(finite, costs - middle, 0.0) / spread
    far = np.maximum(values - BEND, 0.0)
    values = values - far + np.log1p(far)
    values[~finite] = values[finite].max() + 1
    slopes = 1 / (1 + far)
    scale = np.std(values) or 1.0
    noise = np.minimum(np.where(np.isfinite(errors) & finite, errors, 0.0) * slopes / spread, LOUD)
    usual = np.median(noise[finite & (costs <= middle)])
    error = 0.0 if usual <= CLEAN else float(np.square(usual / scale))
    return Targets((values - values.mean()) / scale, np.square(noise / scale), error)


def breach_targets(breaches: Array, _: Array) -> Targets:
    """Transform breaches of one bound: compress values far within or far beyond.

    Args:
        breaches: shape (n,), 0 or less within; inf for failures, which come beyond the worst.
    """
    values, center, scale = _bent(breaches)
    return Targets((values - center) / scale, np.zeros(len(values)), error=0.0)


def bound_target(breaches: Array) -> float:
    """Return the bound itself on the scale of `breach_targets`."""
    _, center, scale = _bent(breaches)
    return -center / scale


def _upper_half(costs: Array) -> Array:
    """Map costs by rank to quantiles of the upper half of a normal distribution; equal costs share their mean rank."""
    ordered = np.sort(costs)
    first, last = np.searchsorted(ordered, costs, "left"), np.searchsorted(ordered, costs, "right")
    ranks = (first + last - 1) / 2
    return np.asarray(ndtri(0.5 + 0.5 * (ranks + 0.5) / max(len(costs), 1)))


def _bent(breaches: Array) -> tuple[Array, float, float]:
    """Return arcsinh of the breaches, linear around the bound and compressed far from it; its mean and its scale."""
    finite = np.isfinite(breaches)
    away = np.sort(np.abs(breaches[finite]))
    unit = np.median(away[: (len(away) + 1) // 2]) if len(away) else 1.0
    unit = SHARP * unit or away.mean() or 1.0
    with np.errstate(over="ignore"):
        values = np.arcsinh(np.clip(np.where(finite, breaches, 0.0) / unit, -FARTHEST, FARTHEST))
    values[~finite] = max(values.max(), 0.0) + 1
    return values, float(values.mean()), float(np.std(values)) or 1.0
