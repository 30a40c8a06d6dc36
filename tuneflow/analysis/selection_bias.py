"""Selection bias: by how much the best of many noisy scores is too good, since it was chosen for being the best."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRID = 200  # values that a true score may have
ROUNDS = 200  # of expectation and maximization
MOST = 1_000  # of the best scores, so many are looked at


def optimism(costs: Array, errors: Array) -> float:
    """Return the expected excess of the lowest cost's true value over the observed one, at least 0.

    The distribution of the true costs is estimated from all observed ones, without a form (nonparametric maximum
    likelihood on a grid); the truth expected behind the lowest one is free of the luck of being chosen.

    Args:
        costs: shape (n,), lower is better; finite.
        errors: shape (n,), their standard errors, of errors that are independent; NaN where not known.

    Returns:
        The bias in units of cost; NaN where no error is known, or there is one score only.

    Source: Efron, Tweedie's formula and selection bias, JASA 106, 2011; Koenker, Mizera, Convex optimization, shape
    constraints, compound decisions, and empirical Bayes rules, JASA 109, 2014.
    """
    order = np.argsort(costs, kind="stable")[:MOST]
    costs, errors = costs[order], errors[order]
    known = np.isfinite(errors)
    if len(costs) < 2 or not known.any():
        return float("nan")
    errors = np.where(known, errors, np.median(errors[known]))
    usual = float(np.median(errors[: max(2, len(errors) // 4)]))
    if not usual > 0 or costs[0] == costs[-1]:
        return 0.0
    truths = np.linspace(costs[0], min(costs[-1], costs[0] + 20 * usual), GRID)
    near = costs <= truths[-1] + 3 * usual
    costs, errors = costs[near], errors[near]
    # A score's error is that of its truth, not of what was seen: a lucky score looks surer than it is.
    closeness = np.exp(-0.5 * np.square((costs - truths[:, None]) / usual)) + 1e-12
    sd = np.maximum(closeness @ errors / closeness.sum(1), 0.1 * usual)
    likely = np.exp(-0.5 * np.square((costs[:, None] - truths) / sd)) / sd
    weights = np.full(GRID, 1 / GRID)
    for _ in range(ROUNDS):
        shares = likely * weights
        shares /= np.maximum(shares.sum(1, keepdims=True), 1e-300)
        weights = shares.mean(0)
    behind = likely[0] * weights
    return float(max(0.0, behind / behind.sum() @ truths - costs[0]))
