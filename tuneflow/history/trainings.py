"""Trainings of one configuration under several seeds, each a trial of its own: the mean of their scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tuneflow.history.magnitude import magnitude
from tuneflow.history.trial import Trial, has_score


class Trainings:
    """The trials of the configurations that were trained again, as `Trial.repeats` links them.

    Args:
        trials: every trial, by number; read only.
    """

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials
        self._numbers: dict[int, dict[int, None]] = {}  # the first trial of a configuration to all of them

    def add(self, trial: Trial) -> None:
        """Take in a trial that repeats another; others change nothing."""
        if trial.repeats is not None:
            self._numbers.setdefault(trial.repeats, {trial.repeats: None})[trial.number] = None

    def numbers(self, trial: Trial) -> list[int]:
        """Return the numbers of all trials of a trial's configuration, the first one first."""
        first = trial.number if trial.repeats is None else trial.repeats
        return list(self._numbers.get(first, [trial.number]))

    def mean(self, trial: Trial) -> Trial:
        """Return the first trial of a configuration with the mean of all trainings that ended as its score.

        Its errors are the standard errors of the mean. A training that diverged or failed counts for all of them.
        """
        if trial.repeats is None and trial.number not in self._numbers:
            return trial
        ended = [one for one in self._of(trial) if one.ended]
        worthless = next((one for one in ended if not has_score(one)), None)
        return worthless or (_mean(ended) if len(ended) > 1 else trial)

    def _of(self, trial: Trial) -> list[Trial]:
        """Return all trials of a trial's configuration, `trial` itself as it is given."""
        return [trial if number == trial.number else self._trials[number] for number in self.numbers(trial)]


def _mean(trials: list[Trial]) -> Trial:
    names = [name for name in trials[0].metrics if all(name in trial.metrics for trial in trials)]
    means, errors = means_of([{name: trial.metrics[name] for name in names} for trial in trials])
    return replace(trials[0], metrics=means, errors=errors)


def means_of(rows: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the means of several trainings by metric, and their standard errors; exact where all values are equal.

    A metric that is not finite in one of them has no error.
    """
    found = {name: _mean_of([row[name] for row in rows]) for name in rows[0]}
    errors = {name: error for name, (_, error) in found.items() if math.isfinite(error)}
    return {name: mean for name, (mean, _) in found.items()}, errors


def _mean_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of a metric and its standard error, which is not finite where a value is not."""
    column = np.array(values, dtype=float)
    if (column == column[0]).all():
        return float(column[0]), 0.0
    unit = float(magnitude(column))
    with np.errstate(invalid="ignore", over="ignore"):
        mean, sd = (column / unit).mean(), (column / unit).std(ddof=1)
        return float(mean * unit), float(sd * unit) / math.sqrt(len(values))
