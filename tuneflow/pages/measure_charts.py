"""Other measures: the metrics that are no objective, such as latency and robust accuracy, and the scores over each."""

import math

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.standing import Standing, known
from tuneflow.history.trial import has_score
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import dots_of, trials_path
from tuneflow.markup.scales import WIDE, Axis, axis_of, log_axis_of
from tuneflow.pages.limit_marks import limit_marks
from tuneflow.pages.section import PageSection
from tuneflow.space.coordinates import Array

SIZE = (420, 260)
MOST = 6  # metrics


def measure_charts(record: StudyRecord) -> PageSection | None:
    """Return a chart for each metric that is no objective; None where there is no such metric."""
    goals = {metric for metric, _ in record.objective.goals}
    columns = {name: _values(record, name) for name in record.metrics if name not in goals}
    shown = [name for name, values in columns.items() if np.isfinite(values).any()][:MOST]
    if not shown:
        return None
    standing = Standing(record)
    figures = (_figure(standing, name, columns[name]) for name in shown)
    return PageSection("measures", "Other measures", element("div", *figures, class_="charts"))


def _values(record: StudyRecord, metric: str) -> Array:
    """Return a metric of all ended trials that have a score, NaN for the others."""
    scored = (trial.ended and has_score(trial) for trial in record.trials)
    values = [trial.metrics.get(metric, math.nan) if ok else math.nan
              for trial, ok in zip(record.trials, scored, strict=True)]  # fmt: skip
    return np.array(values, dtype=float)


def _figure(standing: Standing, metric: str, values: Array) -> Markup:
    caption = element("figcaption", _caption(standing, metric, values))
    finite = values[np.isfinite(values)]
    chart = _chart(standing, metric, values) if finite.min() < finite.max() else None
    return element("figure", chart, caption)


def _caption(standing: Standing, metric: str, values: Array) -> str:
    """Return the metric's value at the best trial, and its range over all."""
    best = standing.record.best
    low, high = np.nanmin(values), np.nanmax(values)
    others = f"{rounded_text(low)} to {rounded_text(high)} over all trials" if low < high else "the same for all trials"
    if best is None or metric not in best.metrics:
        return f"{metric}: {others}"
    own = rounded_text(best.metrics[metric], best.errors.get(metric, math.nan))
    return f"{metric}: {own} at trial {best.number}, the best; {others}"


def _axis(values: Array) -> Axis:
    """Return the scale of all values: as nobody said which are better, none is left at the edge."""
    return log_axis_of(values) if values.max() > WIDE * values.min() > 0 else axis_of(values)


def _chart(standing: Standing, metric: str, values: Array) -> Markup:
    record = standing.record
    goal = record.objective.goals[0][0]
    frame = Frame(_axis(values[np.isfinite(values)]), standing.plain_axis, *SIZE, titles=(metric, goal))
    parts = []
    for kind, numbers in standing.groups.items():
        drawn = known(numbers, values, standing.scores)
        points = frame.points((values[number], standing.scores[number]) for number in drawn)
        parts.append(trials_path(dots_of(points), drawn, f"dots {kind}".strip()))
    marks = limit_marks(frame, record.objective, [metric, goal])
    return frame.svg(*marks, *parts, label=f"{goal} of every trial over its {metric}")
