"""Learning curves as lines: the values of a metric by epoch, each joined to the trial that it went on from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Report, Trial, has_score

Item = TypeVar("Item")


@dataclass(frozen=True)
class CurveLine:
    """The values of a metric over the epochs of a trial.

    Attributes:
        trial: the trial.
        points: (epoch, value) for each report with the metric; before them, for a trial that went on from another one,
            the point of the other one that it started from.
    """

    trial: Trial
    points: tuple[tuple[int, float], ...]


def curve_lines(record: StudyRecord, metric: str) -> list[CurveLine]:
    """Return the curve of each trial that has one, by number."""
    lines = (CurveLine(trial, _points(record, trial, metric)) for trial in record.trials)
    return [line for line in lines if line.points]


def _points(record: StudyRecord, trial: Trial, metric: str) -> tuple[tuple[int, float], ...]:
    own = tuple((report.epoch, report.metrics[metric]) for report in trial.reports if metric in report.metrics)
    if trial.parent is None or not own:
        return own
    parent, epoch = trial.parent
    before = _at(record.history.curve(record.trials[parent]), epoch, metric)
    return own if before is None else ((epoch, before), *own)


def _at(reports: Sequence[Report], epoch: int, metric: str) -> float | None:
    return next((r.metrics[metric] for r in reversed(reports) if r.epoch == epoch and metric in r.metrics), None)


def three_best(record: StudyRecord) -> list[int]:
    """Return the numbers of the three ended trials with the best scores within the limits, the best first."""
    if record.objective.several:
        return []
    history = record.history
    within = [trial for trial in history.finished if has_score(trial) and history.within(trial)]
    return [trial.number for trial in sorted(within, key=lambda trial: (history.rank(trial), trial.number))[:3]]


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` of the items, evenly spread, the first and the last one among them.

    Example:
        >>> thinned(range(10), 4)
        [0, 3, 6, 9]
    """
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(place * step)] for place in range(most)]
