"""Ties: the trials that cannot be told from the best one, given the standard errors of their scores."""

import math
from dataclasses import dataclass

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.history import History
from tuneflow.history.trial import Trial

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
    rivals = _rivals(history)
    gaps = np.array([trial.metrics[metric] - best.metrics[metric] for trial in rivals])
    errors = np.array([trial.errors.get(metric, math.nan) for trial in rivals])
    reach = CLEAR * np.hypot(own, np.where(np.isfinite(errors), errors, own))
    near = [trial for trial, tied in zip(rivals, np.abs(gaps) <= reach, strict=True) if tied]
    numbers = tuple(sorted(trial.number for trial in near))
    return Ties(best, numbers, min(near, key=_price), CLEAR * math.sqrt(2) * own)


def _rivals(history: History) -> list[Trial]:
    """Return a trial for each configuration that has a score within the limits, with the mean of its trainings."""
    within = filter(history.within, history.finished)
    return list({mean.number: mean for mean in map(history.trainings.mean, within)}.values())


def full_seconds(trial: Trial) -> float:
    """Return the seconds that training the trial from its start takes, also where it went on from another one."""
    own = trial.epochs - (trial.parent[1] if trial.parent else 0)
    return trial.seconds / own * trial.epochs if own > 0 else trial.seconds


def _price(trial: Trial) -> tuple[float, int, int]:
    return full_seconds(trial), trial.epochs, trial.number
