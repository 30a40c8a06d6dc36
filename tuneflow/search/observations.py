"""Observations: the trials as data for a model, on one scale where they were not trained equally long."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tuneflow.history.history import History
from tuneflow.history.magnitude import LARGE, magnitude
from tuneflow.history.pareto import beyond, ranking
from tuneflow.history.same_configuration import SameConfiguration
from tuneflow.space.coordinates import Array

Mask = NDArray[np.bool_]

FAR = 3.0  # costs count as so many spreads above their median, at most


@dataclass(frozen=True)
class Observations:
    """All trials as arrays: those with a score, and those without.

    Trials that a scheduler paused or stopped at different epochs cannot be compared as they stand. So each counts with
    an extrapolated score: the trials that went further give pairs of early and late scores, and the rising function
    that fits these best maps its score to the later epoch. A trial worse than all of them stays worse by as much. The
    trials that were trained furthest count as they are, and so does every trial where all ran to their own end. A
    running trial counts with its score at the last epoch at which others stand.

    A configuration that was trained several times counts once, with the mean of the scores.

    In a study that was extended, trials of different lengths count with their scores at the common epoch, the first
    full length; those that extend others are no observations of their own.

    Attributes:
        numbers: shape (n,), first the ended in the order in which they ended, then the others by number.
        units: shape (n, d), their configurations.
        costs: shape (n,), or (n, k) with k objectives; inf for failures. Extreme ones are scaled, see `magnitude`.
        errors: shaped as costs, standard errors, NaN where not known.
        breaches: shape (n, c), the excess over each of c bounds of the limits as the trials stand; inf for failures,
            scaled like costs.
        beyond: shape (n,), the total excess over the limits, each as a share of its bound.
        counts: shape (n,), number of trainings that each stands for.
        pending: shape (q, d), configurations without any report yet.
    """

    numbers: NDArray[np.intp]
    units: Array
    costs: Array
    errors: Array
    breaches: Array
    beyond: Array
    counts: Array
    pending: Array

    @cached_property
    def merits(self) -> Array:
        """Ranks of the trials, 0 for the best: within the limits first, then by cost or by fronts."""
        places = np.empty(len(self.numbers))
        places[ranking(self.costs, beyond=self.beyond)] = np.arange(len(places))
        return places

    @classmethod
    def of(cls, history: History) -> "Observations | None":
        """Collect the trials of `history`; None where no trial has a finite score."""
        goals, units, ended = len(history.objective.goals), history.units, history.observed.numbers
        live = np.sort(np.concatenate([history.running.numbers, history.paused.numbers]))
        numbers = np.concatenate([ended, live])
        costs = history.comparable_costs.reshape(-1, goals)[numbers]
        errors = history.errors.reshape(-1, goals)[numbers]
        levels, at = _levels(history, numbers, costs)
        early = [history.costs_at(int(level)).reshape(-1, goals)[numbers] for level in levels[np.isfinite(levels)]]
        unit = magnitude(np.concatenate([costs, *early]))
        costs, errors, early = costs / unit, np.minimum(errors / unit, LARGE), [each / unit for each in early]
        for place, then in enumerate(early):
            here = (at == place) & np.isnan(costs).any(1)
            costs[here] = then[here]
        for place in reversed(range(len(levels) - 1)):
            for goal in range(goals):
                _extend(costs[:, goal], early[place][:, goal], at == place, at > place)
        known = ~np.isnan(costs).any(1)
        shape = (-1, goals) if goals > 1 else (-1,)
        scored, pending = numbers[known], numbers[~known]
        breaches = history.breaches[scored]
        for row in np.flatnonzero(np.isnan(breaches).any(1)):
            breaches[row] = history.objective.excesses(history.trials[scored[row]].metrics)
        bound = magnitude(breaches)
        costs, errors, breaches, counts = costs[known], errors[known], breaches / bound, np.ones(len(scored))
        repeated = history.repeated[scored]
        if not np.isnan(repeated).all():
            same = SameConfiguration(np.where(np.isnan(repeated), scored, repeated))
            errors, costs, breaches = same.errors(costs, errors), same.mean(costs), same.mean(breaches)
            scored, counts = scored[same.rows], same.counts
        if not np.isfinite(costs).all(1).any():  # each configuration with a score failed in another training
            return None
        with np.errstate(over="ignore"):
            excess = beyond(history.objective, breaches * bound)
        costs, errors = costs.reshape(shape), errors.reshape(shape)
        return cls(scored, units[scored], costs, errors, breaches, excess, counts, units[pending])


def _levels(history: History, numbers: NDArray[np.intp], costs: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the epochs at which trials stand, the shortest first, inf for their own end; and each trial's level."""
    paused = history.paused.numbers
    reached = np.where(history.reached < history.common_epoch, history.reached, np.inf)
    stand = np.concatenate([reached[numbers[np.isfinite(costs).all(1)]], reached[paused[reached[paused] > 0]]])
    levels = np.unique(stand)
    return levels, np.searchsorted(levels, reached[numbers], "right") - 1


def _extend(costs: Array, early: Array, here: Mask, further: Mask) -> None:
    """Replace the costs of the trials `here` by their extrapolation, as the trials that went `further` suggest.

    Args:
        costs: shape (n,), of all; changed in place.
        early: shape (n,), costs of all at the epoch of those here; NaN where there is none.
        here: shape (n,), the trials at that epoch.
        further: shape (n,), the trials that went on from there.
    """
    further_known = further & np.isfinite(early) & np.isfinite(costs)
    here = here & np.isfinite(costs)
    if not further_known.any() or not here.any():
        return
    drawn = np.full(len(costs), np.nan)
    drawn[here | further_known] = _drawn_in(early[here | further_known])
    before, after = rising(drawn[further_known], _drawn_in(costs[further_known]))
    costs[here] = np.interp(drawn[here], before, after) + np.maximum(drawn[here] - before[-1], 0.0)


def rising(x: Array, y: Array) -> tuple[Array, Array]:
    """Fit a rising function of x to y by least squares; return the sorted values of x, and the fit at each.

    Pools adjacent violators. Source: Barlow et al., Statistical Inference under Order Restrictions, 1972.
    """
    values, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    pools: list[tuple[float, int, int]] = []  # mean, weight, how many values
    for mean, weight in zip(np.bincount(which, y) / counts, counts, strict=True):
        size = 1
        while pools and pools[-1][0] >= mean:
            above, heavy, more = pools.pop()
            mean = (mean * weight + above * heavy) / (weight + heavy)
            weight, size = weight + heavy, size + more
        pools.append((mean, weight, size))
    return values, np.repeat([mean for mean, _, _ in pools], [size for _, _, size in pools])


def _drawn_in(costs: Array) -> Array:
    """Return costs, clipped at FAR spreads above the median."""
    middle = np.median(costs)
    spread = np.sqrt(np.mean(np.square(costs[costs <= middle] - middle))) or np.std(costs)
    return np.asarray(np.minimum(costs, middle + FAR * spread))
