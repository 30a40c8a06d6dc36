"""The plot of learning curves: a metric of every trial by epoch."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.curve_lines import CurveLine, curve_lines, three_best
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.errors import did_you_mean, listed
from tuneflow.history.trial import WORTHLESS
from tuneflow.markup.scales import Axis, score_axis
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal
from tuneflow.plot.labels import EndLabel, name_ends
from tuneflow.plot.scaling import inside, set_scale
from tuneflow.plot.subject import studied
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(study: Recorded | StudyRecord, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw a metric of every trial by epoch, the three best trials named at the ends of their lines.

    Trials that a scheduler stopped are dashed, those that failed or diverged in the color of failures; a fork begins at
    the point of its parent that it went on from. The best trial's standard error is a band. The vertical axis is as in
    `tn.plot.history`.

    Args:
        study: a study, or a folder that `tn.open` reads.
        metric: any that trials report; None for the first that the study is tuned for.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: no trial has reported the metric.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    record = studied(study, "curves")
    metric = metric or record.objective.metric
    lines = curve_lines(record, metric)
    if not lines and any(trial.reports for trial in record.trials):
        reported = list(dict.fromkeys(name for t in record.trials for report in t.reports for name in report.metrics))
        near = did_you_mean(metric, reported)
        raise ValueError(f'tn.plot.curves: no trial has reported "{metric}".{near} Reported: {listed(reported)}.')
    ax = axes_of(ax)
    ink = ink_of(ax)
    maximize = dict(record.objective.goals).get(metric, False)
    values = [value for line in lines for _, value in line.points]
    set_scale(ax, "y", score_axis(values, maximize), ones=maximize and 1.0 in values)
    longest = max((line.points[-1][0] for line in lines), default=1)
    set_scale(ax, "x", Axis(min(1, longest - 1), longest + 0.04 * longest, whole=True))
    leaders = three_best(record) or [trial.number for trial in record.history.front if record.objective.several]
    _draw(ax, lines, leaders, metric, ink)
    ax.set_xlabel("epoch")
    ax.set_ylabel(literal(metric))
    return ax


def _draw(ax: "Axes", lines: list[CurveLine], leaders: list[int], metric: str, ink: Ink) -> None:
    labels = []
    _draw_context(ax, [line for line in lines if line.trial.number not in leaders], ink)
    for line in lines:
        number, points = line.trial.number, _places(ax, line)
        if number not in leaders:
            continue
        best = number == leaders[0]
        color = ink.bad if line.trial.status in WORTHLESS else ink.accent if best else ink.second
        ax.plot(
            *points.T,
            _dashes(line),
            color=color,
            marker="." if len(points) == 1 else None,
            linewidth=1.9 if best else 1.4,
            zorder=4 if best else 3,
            label=f"trial {number}",
        )
        if best:
            _draw_band(ax, line, metric, ink)
        labels.append(EndLabel(float(points[-1, 0]), float(points[-1, 1]), f"trial {number}", color))
    name_ends(ax, labels)


def _draw_context(ax: "Axes", lines: list[CurveLine], ink: Ink) -> None:
    """Draw all other trials: as one artist, as there may be thousands."""
    from matplotlib.collections import LineCollection

    colors = [(*(ink.bad if line.trial.status in WORTHLESS else ink.grey), 0.6) for line in lines]
    places, dashes = [_places(ax, line) for line in lines], list(map(_dashes, lines))
    ax.add_collection(
        LineCollection(places, colors=colors, linestyles=dashes or "-", linewidths=0.9, zorder=2, label="trials")
    )
    single = [place for place, points in enumerate(places) if len(points) == 1]
    if single:
        at = np.concatenate([places[place] for place in single])
        ax.scatter(
            at[:, 0], at[:, 1], s=9, c=[colors[place] for place in single], zorder=2, linewidths=0, label="one epoch"
        )


def _places(ax: "Axes", line: CurveLine) -> Array:
    points = np.array(line.points, dtype=float)
    points[:, 1] = inside(ax, "y", points[:, 1])
    return points


def _dashes(line: CurveLine) -> str:
    return "--" if line.trial.status == "STOPPED" else "-"


def _draw_band(ax: "Axes", line: CurveLine, metric: str, ink: Ink) -> None:
    """Draw one standard error up and down, where it is known."""
    known = [(r.epoch, r.metrics[metric], r.errors[metric]) for r in line.trial.reports
             if metric in r.metrics and metric in r.errors]  # fmt: skip
    if known:
        epochs, values, errors = np.array(known).T
        ax.fill_between(epochs, values - errors, values + errors, color=ink.accent, alpha=0.15, linewidth=0)
