"""The scores of configurations, with the mean of those that were trained several times."""

import math
from collections.abc import Iterator

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.space.coordinates import Array


def configuration_scores(history: History, goal: int = 0) -> Array:
    """Return the scores of configurations by their first trial, shape (n,); NaN for later ones, and beyond limits.

    Args:
        history: the study's.
        goal: index of the objective.
    """
    goals = history.objective.goals
    able = (history.breaches <= 0).all(axis=1) & np.isnan(history.repeated)
    scores = np.where(able, history.values.reshape(len(history), len(goals))[:, goal], np.nan)
    for first, mean in repeated_means(history):
        scores[first] = mean.metrics[goals[goal][0]] if history.within(mean) else math.nan
    return scores


def repeated_means(history: History) -> Iterator[tuple[int, Trial]]:
    """Yield the number of the first trial of each configuration that was trained several times, and their mean."""
    for first in np.unique(history.repeated[np.isfinite(history.repeated)]).astype(int).tolist():
        yield first, history.trainings.mean(history.trials[first])
