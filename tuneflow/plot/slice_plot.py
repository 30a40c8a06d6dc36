"""The plot of scores over parameters, one at a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.parameter_axis import jitter
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal, width_of
from tuneflow.plot.labels import name_points, slope_of
from tuneflow.plot.parameter_columns import ParameterColumn, columns_of
from tuneflow.plot.scaling import inside, set_scale
from tuneflow.plot.score_points import draw_scores
from tuneflow.plot.subject import Subject, subject_of
from tuneflow.space.coordinates import Array
from tuneflow.space.parameters import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EACH = 1.9  # inches of width for each of several parameters
TICK = 0.45  # inches for each tick
INSET = 0.12  # of a parameter's width, left free on either side


def slice(
    study: Recorded | StudyRecord,
    parameters: str | Sequence[str] | None = None,
    metric: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score of each trial over a parameter, or over several side by side.

    Points are as in `tn.plot.history`; the three best, or the front, are named. Options stand in their order, the
    points of one moved a little apart. A trial in which a parameter is not active has no point there.

    Args:
        study: a study, or a folder that `tn.open` reads.
        parameters: a dotted name or the end of one; or several; None for all that have several values.
        metric: one of those that the study is tuned for; None for the first.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes. The horizontal axis of one parameter has its values, logarithmic where the space is, or the indices of
        its options. Of several each has a width of 1, with ticks of its own.

    Raises:
        ValueError: the study is not tuned for the metric, or its space has no such parameter.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    subject = subject_of(study, metric, "slice")
    columns = columns_of(subject.record, [parameters] if isinstance(parameters, str) else parameters)
    ax = axes_of(ax, width=max(6.4, EACH * len(columns)))
    ink = ink_of(ax)
    set_scale(ax, "y", subject.plain_axis, subject.ones)
    ax.set_ylabel(literal(subject.metric))
    if len(columns) == 1:
        _draw_one(ax, subject, columns[0], ink)
    else:
        _draw_several(ax, subject, columns, ink)
    return ax


def _draw_one(ax: "Axes", subject: Subject, column: ParameterColumn, ink: Ink) -> None:
    set_scale(ax, "x", column.scale)
    ax.margins(x=0.03)
    ax.set_xlabel(literal(column.name))
    moved = column.units + _jitters(column) if isinstance(column.parameter, Choice) else column.units
    _draw(ax, subject, column.drawn(moved), ink)


def _draw_several(ax: "Axes", subject: Subject, columns: Sequence[ParameterColumn], ink: Ink) -> None:
    """Draw parameters side by side, each in a part of the horizontal axis."""
    ticks, texts = [], []
    ax.set_xlim(0, max(1, len(columns)))
    slope = slope_of(ax, [column.name for column in columns])
    most = min(4, max(2, int(width_of(ax) / len(columns) / TICK)))
    for place, column in enumerate(columns):
        if place:
            ax.axvline(place, color=ink.faint, linewidth=1, zorder=0)
        shown = column.axis.ticks(most)
        ticks += [_within(place, column.axis.position(value)) for value, _ in shown]
        texts += [literal(text) for _, text in shown]
        ax.annotate(literal(column.name), (place + 0.5, 1.0), (0, 4), textcoords="offset points", fontsize="small",
                    xycoords=ax.get_xaxis_transform(), color=ink.text, rotation=slope,
                    ha="left" if slope else "center")  # fmt: skip
        moved = np.clip(column.units + _jitters(column), 0, 1)
        at = np.array([column.axis.position(unit) if unit == unit else np.nan for unit in moved])
        _draw(ax, subject, _within(place, at), ink)
    ax.set_xticks(ticks, texts, fontsize="small")


def _draw(ax: "Axes", subject: Subject, at: Array, ink: Ink) -> None:
    """Draw all trials at their places, shape (n,), and name the best."""
    draw_scores(ax, subject, np.arange(len(at)), at, ink)
    best = np.array([number for number in subject.leaders if at[number] == at[number]], dtype=int)
    points = np.column_stack([at[best], inside(ax, "y", subject.scores[best])])
    ax.plot(*points.T, "o", color=ink.accent, ms=5, zorder=4, label="best")
    name_points(ax, points, [str(number) for number in best], ink.accent)


def _jitters(column: ParameterColumn) -> Array:
    return np.array([jitter(column.parameter, number) for number in range(len(column.units))])


def _within(place: int, position: "float | Array") -> "Array":
    """Return positions, from 0 to 1, inside the part of the axis that a parameter has."""
    return place + INSET + (1 - 2 * INSET) * np.asarray(position)
