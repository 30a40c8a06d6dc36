"""The plot of configurations as lines over parallel axes, one for each parameter and one for the score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.markup.scales import Axis
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal
from tuneflow.plot.labels import EndLabel, name_ends, slope_of, write_ticks
from tuneflow.plot.parameter_columns import columns_of
from tuneflow.plot.subject import Subject, studied
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EACH = 1.35  # inches of width for each axis


def parallel(
    study: Recorded | StudyRecord, parameters: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw each trial as a line across parallel axes: its parameters, then its score in each objective.

    Axes are logarithmic where the space is, options stand in their order, a line has a gap where a parameter is not
    active. The better a trial, the stronger its line; the three best, or the front, are named at their ends, and dotted
    over their gaps. Trials that failed or diverged are dashed, and have no score.

    Args:
        study: a study, or a folder that `tn.open` reads.
        parameters: dotted names, or ends of them, in the order of their axes; None for all that have several values.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes; a parameter's horizontal place is its index, all heights are from 0 to 1.

    Raises:
        ValueError: the space has no such parameter.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    record = studied(study, "parallel")
    subjects = [Subject(record, goal) for goal in range(len(record.objective.goals))]
    columns = columns_of(record, parameters)
    ax = axes_of(ax, width=EACH * (len(columns) + len(subjects) + 0.5))
    ink = ink_of(ax)
    scales: list[Axis] = [*(column.axis for column in columns), *(subject.plain_axis for subject in subjects)]
    names = [*(column.name for column in columns), *(subject.metric for subject in subjects)]
    heights = np.array([*(column.positions for column in columns), *map(_positions, subjects)]).T
    _frame(ax, scales, names, ink)
    _draw_lines(ax, subjects[0], heights, ink)
    return ax


def _positions(subject: Subject) -> Array:
    scores = subject.scores
    return np.array([subject.plain_axis.position(score) if score == score else np.nan for score in scores])


def _frame(ax: "Axes", scales: Sequence[Axis], names: Sequence[str], ink: Ink) -> None:
    """Draw the axes with their ticks and names."""
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    ax.set_xlim(-0.35, len(scales) - 0.8)
    ax.set_ylim(-0.03, 1.03)
    slope = slope_of(ax, names)
    ax.set_xticks(range(len(scales)), map(literal, names), rotation=slope, ha="right" if slope else "center")
    ax.tick_params("x", length=0, pad=6)
    for place, scale in enumerate(scales):
        ax.axvline(place, color=ink.quiet, linewidth=0.8, zorder=3)
        write_ticks(ax, [(place, scale.position(value), text) for value, text in scale.ticks(6)], ink)


def _draw_lines(ax: "Axes", subject: Subject, heights: Array, ink: Ink) -> None:
    from matplotlib.collections import LineCollection

    places = np.arange(heights.shape[1])
    ranked = sorted(subject.scored, key=lambda n: subject.record.history.rank(subject.record.trials[n]), reverse=True)
    context: list[Any] = [n for n in ranked if n not in subject.leaders]
    lines = [np.column_stack([places, heights[number]]) for number in context]
    strength = np.linspace(0.25, 0.85, len(context))
    ax.add_collection(LineCollection(lines, colors=[(*ink.grey, s) for s in strength], linewidths=1, label="trials"))
    for number in subject.worthless:
        ax.plot(places, heights[number], "--", color=ink.bad, linewidth=0.8, alpha=0.5, label="failed")
    labels = []
    for rank, number in enumerate(reversed(subject.leaders)):
        best = rank == len(subject.leaders) - 1 or subject.record.objective.several
        color = ink.accent if best else ink.second
        ax.plot(places, heights[number], color=color, linewidth=2 if best else 1.3, zorder=4, label=f"trial {number}")
        active = np.isfinite(heights[number])
        if not active.all():
            ax.plot(places[active], heights[number, active], ":", color=color, linewidth=1, alpha=0.7)
        labels.append(EndLabel(places[-1], heights[number, -1], f"trial {number}", color))
    name_ends(ax, labels)
