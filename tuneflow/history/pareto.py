"""Fronts: which trials are better than others, with one objective or several."""

from collections.abc import Iterator

import numpy as np

from tuneflow.history.objective import Objective
from tuneflow.history.trial import History
from tuneflow.space.coordinates import Array, Places


def ranking(costs: Array, enough: float = np.inf, beyond: Array | None = None) -> Places:
    """Places of `costs` from the best to the worst, the earliest of equals first.

    With several objectives by fronts, within a front the least crowded first; what has an infinite cost is last. What
    is within the limits comes before what is not, and of that first what is the least beyond them.

    Args:
        costs: shape (n,) or (n, k), lower is better, without NaN.
        enough: how many need to be in their order with several objectives; the rest may be in any.
        beyond: shape (n,), as `breaches` gives it; nothing is, by default.

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
    """How far each trial is beyond the limits in all, each as a share of its bound; shape (n,).

    0 within all of them, and where there are none; inf for failures, NaN for what has not ended.
    """
    return beyond(history.objective, history.breaches)


def beyond(objective: Objective, breaches: Array) -> Array:
    """How far trials are beyond the limits in all, shape (n,), of `breaches` as History has them, shape (n, c)."""
    found: Array = (np.maximum(breaches, 0.0) / np.array(objective.units)).sum(1)
    return found


def fronts(costs: Array) -> Iterator[Places]:
    """The places that nothing beats in every objective, then those that only they beat, and so on, each by place."""
    left = np.lexsort(costs.T[::-1])
    while len(left):
        front, rest = [], left
        while len(rest):
            # What comes first in the order of the objectives is beaten by nothing that is left.
            own, others = costs[rest[0]], costs[rest[1:]]
            front.append(rest[0])
            rest = rest[1:][(others < own).any(1) | (others == own).all(1)]
        left = left[~np.isin(left, front)]
        yield np.sort(np.array(front, dtype=np.intp))


def crowding(costs: Array) -> Array:
    """How far a front's points are from their neighbors, summed over the objectives; `inf` at its ends.

    Source: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.
    """
    distances = np.zeros(len(costs))
    for own in costs.T:
        order = np.argsort(own, kind="stable")
        span = own[order[-1]] - own[order[0]]
        if span > 0:
            distances[order[1:-1]] += (own[order[2:]] - own[order[:-2]]) / span
            distances[order[[0, -1]]] = np.inf
    return distances
