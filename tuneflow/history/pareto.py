"""Pareto ranking: an order of trials with one objective or several, within limits or beyond them."""

from collections.abc import Iterator

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.magnitude import magnitude
from tuneflow.history.objective import Objective
from tuneflow.space.coordinates import Array, Places


def ranking(costs: Array, enough: float = np.inf, beyond: Array | None = None) -> Places:
    """Return the indices of `costs` from the best to the worst, the earliest of equals first.

    With several objectives the order is by fronts, within a front the least crowded first; infinite costs are last.
    Trials within the limits come before those beyond them, which are ordered by their breach.

    Args:
        costs: shape (n,) or (n, k), lower is better, without NaN.
        enough: number of leading indices that need to be in order with several objectives; the rest may be in any.
        beyond: shape (n,), as `breaches` gives it; by default all are within the limits.

    Source: for the limits: Deb, An efficient constraint handling method for genetic algorithms, 2000.
    """
    if beyond is not None and beyond.any():
        failed = ~np.isfinite(costs.reshape(len(costs), -1)).all(1)
        beyond = np.where(failed, np.inf, beyond)
        within, others = np.flatnonzero(beyond == 0), np.flatnonzero(beyond > 0)
        return np.append(within[ranking(costs[within], enough)], others[np.argsort(beyond[others], kind="stable")])
    if costs.ndim == 1 or costs.shape[1] == 1:
        return np.argsort(costs.reshape(-1), kind="stable")
    scored = np.asarray(np.isfinite(costs).all(1))
    order: list[int] = []
    sound = np.flatnonzero(scored)
    for front in fronts(costs[sound]):
        if len(order) >= enough:
            break
        lonely = crowding(costs[sound[front]])
        order += sound[front[np.argsort(-lonely, kind="stable")]].tolist()
    rest = scored.copy()
    rest[order] = False
    return np.array([*order, *np.flatnonzero(rest), *np.flatnonzero(~scored)], dtype=np.intp)


def breaches(history: History) -> Array:
    """Return each trial's breach of the limits, shape (n,): the sum of excesses as shares of their bounds.

    0 within all of them, and where there are none; inf for failures, NaN for what has not ended.
    """
    return beyond(history.objective, history.breaches)


def beyond(objective: Objective, breaches: Array) -> Array:
    """Return the sum of excesses as shares of their bounds, shape (n,), from History's `breaches`, shape (n, c)."""
    with np.errstate(over="ignore"):  # infinitely far beyond a bound, which is the last place
        return np.asarray((np.maximum(breaches, 0.0) / np.array(objective.units)).sum(1))


def fronts(costs: Array) -> Iterator[Places]:
    """Yield the indices of the Pareto front, then of the front of the rest, and so on, each in ascending order."""
    left = np.lexsort(costs.T[::-1])
    while len(left):
        front, rest = [], left
        while len(rest):
            # The first in the order of the objectives is beaten by none that is left.
            own, others = costs[rest[0]], costs[rest[1:]]
            front.append(rest[0])
            rest = rest[1:][(others < own).any(1) | (others == own).all(1)]
        left = left[~np.isin(left, front)]
        yield np.sort(np.array(front, dtype=np.intp))


def crowding(costs: Array) -> Array:
    """Return the crowding distance of a front's points, summed over the objectives; `inf` at its ends.

    Source: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.
    """
    distances = np.zeros(len(costs))
    for own in (costs / magnitude(costs)).T:
        order = np.argsort(own, kind="stable")
        span = own[order[-1]] - own[order[0]]
        if span > 0:
            distances[order[1:-1]] += (own[order[2:]] - own[order[:-2]]) / span
            distances[order[[0, -1]]] = np.inf
    return distances
