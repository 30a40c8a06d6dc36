"""Costs of several objectives, and breaches of limits, as targets for a Gaussian process each."""

import numpy as np

from tuneflow.search.gp.targets import CLEAN, Targets
from tuneflow.space.coordinates import Array

BEND = 2.0  # spreads of the better half beyond its median from which on distances count by their logarithm

SHARP = 10.0  # breaches up to so many times those of the nearer half are kept nearly as they are


def eased(costs: Array, errors: Array) -> Targets:
    """Costs of one objective among several, or under limits, as targets.

    What makes a trade-off good may lie anywhere in each cost, so none of it is drawn apart, as `warp.targets` does near
    the best; only the far worse is drawn near. Failures come last, beyond the worst.

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
    noise = np.where(np.isfinite(errors) & finite, errors, 0.0) * slopes / spread
    usual = np.median(noise[finite & (costs <= middle)])
    error = 0.0 if usual <= CLEAN else float(np.square(usual / scale))
    return Targets((values - values.mean()) / scale, np.square(noise / scale), error)


def measured(breaches: Array, errors: Array) -> Targets:
    """Breaches of one bound as targets: what is far within or far beyond is drawn near.

    Args:
        breaches: shape (n,), 0 or less within; inf for failures, which come beyond the worst.
        errors: not used.
    """
    values, center, scale = _bent(breaches)
    return Targets((values - center) / scale, np.zeros(len(values)), error=0.0)


def bound(breaches: Array) -> float:
    """Where the bound itself lies among the targets that `measured` makes."""
    _, center, scale = _bent(breaches)
    return -center / scale


def _bent(breaches: Array) -> tuple[Array, float, float]:
    """A curve through 0 that keeps the distances around the bound, and draws near what is far; its center and scale."""
    finite = np.isfinite(breaches)
    away = np.sort(np.abs(breaches[finite]))
    unit = np.median(away[: (len(away) + 1) // 2]) if len(away) else 1.0
    unit = SHARP * unit or away.mean() or 1.0
    values = np.arcsinh(np.where(finite, breaches, 0.0) / unit)
    values[~finite] = max(values.max(), 0.0) + 1
    return values, float(values.mean()), float(np.std(values)) or 1.0
