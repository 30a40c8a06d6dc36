"""Subject: the scores of a study's trials in one metric, and the scale that they are drawn on."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneflow.analysis.curve_lines import three_best
from tuneflow.analysis.record import Recorded, StudyRecord, record_of
from tuneflow.analysis.standing import Standing
from tuneflow.errors import did_you_mean, listed
from tuneflow.space.coordinates import Array, Places


class Subject(Standing):
    """One objective of a study, as plots need it.

    Args:
        record: the study's.
        goal: index of the objective.
    """

    @property
    def metric(self) -> str:
        """The objective's metric."""
        return self.record.objective.goals[self.goal][0]

    @property
    def maximize(self) -> bool:
        """True if larger is better."""
        return self.record.objective.goals[self.goal][1]

    @cached_property
    def errors(self) -> Array:
        """Standard errors of the scores, shape (n,); 0 where none is known."""
        history = self.record.history
        errors = history.errors.reshape(len(history), len(self.record.objective.goals))[:, self.goal]
        return np.where(np.isfinite(errors), errors, 0.0)

    @cached_property
    def within(self) -> NDArray[np.bool_]:
        """True for the trials that keep all limits, shape (n,)."""
        return np.asarray((self.record.history.breaches <= 0).all(axis=1))

    @cached_property
    def scored(self) -> Places:
        """Numbers of the trials that have a score."""
        return np.flatnonzero(np.isfinite(self.scores))

    @cached_property
    def leaders(self) -> list[int]:
        """Numbers of the three best trials, or of those on the front with several objectives, the best first."""
        return self.best if self.record.objective.several else three_best(self.record)

    @property
    def ones(self) -> bool:
        """True if a score is exactly 1."""
        return bool((self.scores == 1).any())


def subject_of(study: Recorded | StudyRecord, metric: str | None, name: str) -> Subject:
    """Return the scores of a study's trials in one of the metrics that it tunes for.

    Args:
        study: the study, a folder that `tn.open` reads, or a record.
        metric: the metric; None for the first one.
        name: of the plot, which opens a message.

    Raises:
        TypeError: `study` is none of these.
        ValueError: the study is not tuned for the metric.
    """
    record = studied(study, name)
    metrics = [goal for goal, _ in record.objective.goals]
    if metric is not None and metric not in metrics:
        near = did_you_mean(metric, metrics)
        raise ValueError(f'tn.plot.{name}: the study is tuned for {listed(metrics)}, got metric="{metric}".{near}')
    return Subject(record, 0 if metric is None else metrics.index(metric))


def studied(study: Any, name: str) -> StudyRecord:
    """Return the record of a study.

    Args:
        study: the study, a folder that `tn.open` reads, or a record.
        name: of the plot, which opens a message.

    Raises:
        TypeError: `study` is none of these.
    """
    if not hasattr(study, "record") and not isinstance(study, StudyRecord):
        folder = repr(str(study)) if isinstance(study, str | Path) else "folder"
        raise TypeError(f"tn.plot.{name} needs a tn.Study, got {type(study).__name__}; tn.open({folder}) reads one.")
    return record_of(study)
