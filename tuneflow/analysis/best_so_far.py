"""The best score so far, against the number of trials, epochs or seconds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuneflow.analysis.configuration_scores import configuration_scores
from tuneflow.analysis.record import StudyRecord
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.space.coordinates import Array, Places

Unit = Literal["trials", "epochs", "seconds"]


@dataclass(frozen=True)
class BestSoFar:
    """The trials that have ended, one after the other, and the best score of each and all before it.

    Attributes:
        numbers: the trials' numbers, shape (n,).
        spent: number of trials proposed, or of epochs or seconds of training until then, shape (n,).
        scores: the scores of their configurations in units of the metric, shape (n,); NaN without one, or beyond a
            limit. One that was trained several times has the mean at its first trial, and NaN at the others.
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
        unit: what to count: trials, in the order of their numbers; or, in the order of their ends, the epochs that
            they trained themselves, without those of the trials that they went on from, or the seconds of these.
        goal: index of the objective.
    """
    history = record.history
    numbers = history.finished.numbers
    numbers = np.sort(numbers) if unit == "trials" else numbers
    scores = configuration_scores(history, goal)[numbers]
    best = (np.fmax if record.objective.goals[goal][1] else np.fmin).accumulate(scores)
    return BestSoFar(numbers, _spent(history, numbers, unit), scores, best)


def _spent(history: History, numbers: Places, unit: Unit) -> Array:
    if unit == "trials":
        return np.asarray(numbers + 1.0)
    trials = [history.trials[number] for number in numbers.tolist()]
    costs = [float(trial.seconds if unit == "seconds" else own_epochs(trial)) for trial in trials]
    return np.asarray(np.cumsum(np.array(costs)))


def own_epochs(trial: Trial) -> int:
    """Return the number of epochs that a trial trained itself, after those of a trial that it went on from."""
    return max(0, trial.epochs - (trial.parent[1] if trial.parent else 0))
