"""The best score so far, against the number of trials, epochs or seconds."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Trial
from tuneflow.space.coordinates import Array, Places

Unit = Literal["trials", "epochs", "seconds"]


@dataclass(frozen=True)
class BestSoFar:
    """The trials that have ended, in the order of their ends, and the best score of each and all before it.

    Attributes:
        numbers: the trials' numbers, shape (n,).
        spent: number of trials, epochs, or seconds of training until then, shape (n,).
        scores: the trials' scores in units of the metric, shape (n,); NaN without one, or beyond a limit.
        best: the best score so far, shape (n,); NaN before the first one.
    """

    numbers: Places
    spent: Array
    scores: Array
    best: Array


def best_so_far(record: StudyRecord, unit: Unit = "trials", goal: int = 0) -> BestSoFar:
    """Return the best score so far of a study.

    Args:
        record: the study's.
        unit: what to count: trials that ended; epochs that they trained themselves, without those of the trials that
            they went on from; or the seconds of these.
        goal: index of the objective.
    """
    history = record.history
    trials = list(history.finished)
    numbers = history.finished.numbers
    goals = record.objective.goals
    scores, maximize = history.values.reshape(len(history), len(goals))[numbers, goal], goals[goal][1]
    scores = np.where((history.breaches[numbers] <= 0).all(axis=1), scores, np.nan)
    best = (np.fmax if maximize else np.fmin).accumulate(scores)
    spent = np.array(list(accumulate(_cost(trial, unit) for trial in trials)), dtype=float)
    return BestSoFar(numbers, spent, scores, best)


def _cost(trial: Trial, unit: Unit) -> float:
    """Return what a trial adds to the count."""
    if unit == "trials":
        return 1
    return trial.seconds if unit == "seconds" else own_epochs(trial)


def own_epochs(trial: Trial) -> int:
    """Return the number of epochs that a trial trained itself, after those of a trial that it went on from."""
    return max(0, trial.epochs - (trial.parent[1] if trial.parent else 0))
