"""Points of scores: one for each trial, by the way in which it ended."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.plot.canvas import Ink
from tuneflow.plot.scaling import inside
from tuneflow.plot.subject import Subject
from tuneflow.space.coordinates import Array, Places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 200  # trials up to which each score has its standard error
EDGE = 0.02  # of the axes' height: where trials without a score are


def draw_scores(ax: "Axes", subject: Subject, numbers: Places, at: Array, ink: Ink) -> None:
    """Draw the scores of trials with their standard errors.

    Trials that were stopped early are hollow, those beyond a limit crosses. Those that failed or diverged are crosses
    at the worse edge, and those far worse than the others triangles there.

    Args:
        ax: the axes, the scale of which is the subject's.
        subject: has the scores.
        numbers: of the trials, shape (m,).
        at: their places on the horizontal axis, shape (m,); NaN leaves one out.
        ink: the colors.
    """
    placed = np.isfinite(at)
    numbers, at = numbers[placed], at[placed]
    scores, errors, within = subject.scores[numbers], subject.errors[numbers], subject.within[numbers]
    places = inside(ax, "y", scores)
    scored, stopped = np.isfinite(scores), np.isin(numbers, subject.groups["stopped"])
    beyond = scored & (scores < subject.plain_axis.low if subject.maximize else scores > subject.plain_axis.high)
    near = scored & ~beyond
    if len(numbers) <= BARS and errors.any():
        ax.errorbar(at[near], scores[near], errors[near], fmt="none", ecolor=ink.faint, elinewidth=1, zorder=1)
    for label, marker, chosen, face in (
        ("done", "o", near & within & ~stopped, ink.grey),
        ("stopped", "o", near & within & stopped, ink.ground),
        ("beyond a limit", "x", near & ~within, ink.grey),
    ):
        if chosen.any():
            ax.plot(at[chosen], places[chosen], marker, color=ink.grey, markerfacecolor=face, ms=4.5, label=label)
    _draw_at_edge(ax, subject, at[beyond], "far worse", "v" if subject.maximize else "^", ink)
    _draw_at_edge(ax, subject, at[np.isin(numbers, subject.worthless)], "failed", "x", ink)


def _draw_at_edge(ax: "Axes", subject: Subject, at: Array, label: str, marker: str, ink: Ink) -> None:
    if len(at):
        edge = np.full(len(at), EDGE if subject.maximize else 1 - EDGE)
        color = ink.bad if marker == "x" else ink.grey
        ax.plot(at, edge, marker, color=color, ms=4.5, transform=ax.get_xaxis_transform(), label=label)
