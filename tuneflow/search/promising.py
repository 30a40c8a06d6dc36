"""Promising configurations: which one to train again where every configuration of a space was tried."""

import math

from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.space.search_space import Config


def promising(history: History) -> Config | None:
    """Return a configuration to train again; None where no trial has a score.

    The best one has most trainings and the one of rank r a share of 1 / r, so that the mean of each is known the better
    the more it matters. The front of several objectives comes first.

    Args:
        history: all trials so far; those under way count as trainings.
    """
    front = {trial.number for trial in history.front}
    ranked = sorted(
        (trial for trial in history.observed if _first(trial, history) and history.cost(trial) < math.inf),
        key=lambda trial: (trial.number not in front, history.rank(trial), trial.number),
    )
    trainings = [len(history.trainings.numbers(trial)) * rank for rank, trial in enumerate(ranked, 1)]
    return ranked[trainings.index(min(trainings))].config if ranked else None


def _first(trial: Trial, history: History) -> bool:
    """True for the first training of a configuration that can come again."""
    return trial.repeats is None and trial.parent is None and history.space.discrete(trial.config)
