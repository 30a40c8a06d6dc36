"""Curves of the best trials that were trained to the full length, as arrays, for the rules on epochs."""

import math
from dataclasses import dataclass

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Report, Trial
from tuneflow.space.coordinates import Array

FEWEST = 3  # trials at the full length,
POINTS = 4  # and epochs with a score, below which nothing is said
MOST = 8  # trials that are looked at,
BEST = 0.25  # which are this share of all of them, three at least


@dataclass(frozen=True)
class CostCurves:
    """The curves of k trials at e epochs, the best trial first.

    Attributes:
        epochs: shape (e,), counted from 1.
        costs: shape (k, e), the objective, lower is better.
        losses: shape (k, e), the validation loss; NaN where it was not reported.
        train_losses: shape (k, e), the training loss; NaN where it was not reported.
        full: the full length.
        error: the standard error of the best trial's score; 0 where it is not known.
    """

    epochs: Array
    costs: Array
    losses: Array
    train_losses: Array
    full: int
    error: float

    @property
    def drop(self) -> float:
        """Mean of the costs' fall from the first epoch to the best one."""
        return float((self.costs[:, 0] - self.costs.min(1)).mean())


def cost_curves(record: StudyRecord) -> CostCurves | None:
    """Return the curves of the best trials; None with too few trials or epochs, an open end, or several objectives."""
    history, objective = record.history, record.objective
    if objective.several or history.open_end:
        return None
    trials = [t for t in history.finished if t.epochs == history.epochs and history.within(t) and t.status == "DONE"]
    trials = sorted(trials, key=lambda trial: (history.rank(trial), trial.number))
    curves = {
        trial.number: _scored(record, trial) for trial in trials[: min(MOST, max(FEWEST, round(BEST * len(trials))))]
    }
    shared = set.intersection(*(set(curve) for curve in curves.values())) if len(curves) >= FEWEST else set()
    epochs = sorted(shared)
    if len(epochs) < POINTS or epochs[-1] != history.epochs:
        return None
    rows = [[curve[epoch].metrics for epoch in epochs] for curve in curves.values()]
    costs = np.array([[objective.cost(metrics) for metrics in row] for row in rows])
    losses, trained = (
        np.array([[metrics.get(name, math.nan) for metrics in row] for row in rows]) for name in ("loss", "train_loss")
    )
    error = trials[0].errors.get(objective.metric, 0.0)
    return CostCurves(np.array(epochs), costs, losses, trained, history.epochs, error if math.isfinite(error) else 0.0)


def _scored(record: StudyRecord, trial: Trial) -> dict[int, Report]:
    """Return the reports of a trial, and of those that it went on from, whose objective is finite, by epoch."""
    history, objective = record.history, record.objective
    return {
        report.epoch: report
        for report in history.curve(trial)
        if objective.complete(report.metrics) and math.isfinite(objective.cost(report.metrics))
    }
