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
    for line in lines:
        number, status = line.trial.number, line.trial.status
        rank = leaders.index(number) if number in leaders else None
        color = ink.bad if status in WORTHLESS else ink.grey if rank is None else ink.second if rank else ink.accent
        points = np.array(line.points, dtype=float)
        points[:, 1] = inside(ax, "y", points[:, 1])
        ax.plot(
            *points.T,
            "--" if status == "STOPPED" else "-",
            color=color,
            marker="." if len(points) == 1 else None,
            linewidth=0.9 if rank is None else 1.9 - 0.5 * bool(rank),
            alpha=0.6 if rank is None else 1.0,
            zorder=2 if rank is None else 4 - bool(rank),
            label=f"trial {number}",
        )
        if rank == 0:
            _draw_band(ax, line, metric, ink)
        if rank is not None:
            labels.append(EndLabel(*points[-1], f"trial {number}", color))
    name_ends(ax, labels)


def _draw_band(ax: "Axes", line: CurveLine, metric: str, ink: Ink) -> None:
    """Draw one standard error up and down, where it is known."""
    known = [(r.epoch, r.metrics[metric], r.errors[metric]) for r in line.trial.reports
             if metric in r.metrics and metric in r.errors]  # fmt: skip
    if known:
        epochs, values, errors = np.array(known).T
        ax.fill_between(epochs, values - errors, values + errors, color=ink.accent, alpha=0.15, linewidth=0)
