"""Ties: the trials that cannot be told from the best one, given the standard errors of their scores."""

import math
from dataclasses import dataclass

import numpy as np

from tuneflow.analysis.configuration_scores import configuration_scores, repeated_means
from tuneflow.analysis.once import once
from tuneflow.analysis.record import StudyRecord
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.space.coordinates import Array

CLEAR = 2.0  # standard errors of a difference, beyond which it is taken to be one


@dataclass(frozen=True)
class Ties:
    """The best trial and those whose scores differ from its score by no more than noise.

    Attributes:
        best: the best trial, with the score that it was compared by.
        numbers: the trials that tie with it, itself among them, by number; one for each configuration.
        cheapest: the one of these that takes the fewest seconds to train, or the fewest epochs where no seconds are
            known.
        reach: the difference up to which a trial with the best one's standard error ties with it.
    """

    best: Trial
    numbers: tuple[int, ...]
    cheapest: Trial
    reach: float


@once
def ties_of(record: StudyRecord) -> Ties | None:
    """Return the trials that tie with the best one.

    A trial ties where its score differs by at most two standard errors of the difference. Errors are taken as
    independent; evaluated on the same examples they are so in part, and the difference is known better than that.

    Returns:
        None where there is no best trial, there are several objectives, or the standard error of the best is unknown.
    """
    history, metric = record.history, record.objective.metric
    best = history.leader  # scores of fresh seeds compare with none but those of fresh seeds
    own = math.nan if best is None else best.errors.get(metric, math.nan)
    if best is None or not math.isfinite(own):
        return None
    scores, errors = _scores(history)
    with np.errstate(over="ignore"):
        reach = CLEAR * np.hypot(own, np.where(np.isfinite(errors), errors, own))
        near = np.flatnonzero(np.abs(scores - best.metrics[metric]) <= reach)
    cheapest = min((record.trials[number] for number in near.tolist()), key=_price)
    return Ties(best, tuple(near.tolist()), cheapest, CLEAR * math.sqrt(2) * own)


def _scores(history: History) -> tuple[Array, Array]:
    """Return the scores of configurations by their first trial, and their errors, shape (n,); NaN beyond limits."""
    metric = history.objective.metric
    scores, errors = configuration_scores(history), history.errors.copy()
    for first, mean in repeated_means(history):
        errors[first] = mean.errors.get(metric, math.nan)
    return scores, errors


def full_seconds(trial: Trial) -> float:
    """Return the seconds that training the trial from its start takes, also where it went on from another one."""
    own = trial.epochs - (trial.parent[1] if trial.parent else 0)
    return trial.seconds / own * trial.epochs if own > 0 else trial.seconds


def _price(trial: Trial) -> tuple[float, int, int]:
    return full_seconds(trial), trial.epochs, trial.number
