"""The ended trials of a study as points with ranks, for the rules that compare configurations."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.space.coordinates import Array

Places = NDArray[np.intp]


@dataclass(frozen=True)
class RankedTrials:
    """Ended trials that began at epoch 0, one for each configuration, the best one first.

    Attributes:
        trials: those with a score before those without.
        units: shape (n, d), their configurations in the unit cube; NaN where a coordinate is not active.
        quality: shape (n,), normal scores of their ranks, lower is better; trials without a score share the worst.
        scored: number of trials with a score.
    """

    trials: tuple[Trial, ...]
    units: Array
    quality: Array
    scored: int

    def __len__(self) -> int:
        return len(self.trials)


def ranked_trials(history: History) -> RankedTrials:
    """Return the ended trials of a study with one objective; forks and those that extend others are left out."""
    firsts = (trial for trial in history.observed if trial.repeats is None and trial.parent is None)
    keyed = sorted(((history.rank(trial), trial.number) for trial in firsts), key=lambda pair: pair)
    numbers = [number for _, number in keyed]
    ranks = np.array([rank for rank, _ in keyed]).reshape(len(keyed), 2)
    scored = int(np.isfinite(ranks[:, 1]).sum())
    return RankedTrials(
        tuple(history.trials[number] for number in numbers), history.units[numbers], _normal_scores(ranks), scored
    )


def _normal_scores(ranks: Array) -> Array:
    """Return the normal quantiles of ranks, shape (n, 2), in order; equal ones share the middle of their places."""
    if not len(ranks):
        return np.empty(0)
    _, groups, counts = np.unique(ranks, axis=0, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - (counts + 1) / 2)[groups.ravel()]
    return np.array([NormalDist().inv_cdf((place + 0.5) / len(ranks)) for place in places])
