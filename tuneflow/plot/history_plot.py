"""The plot of a study's history: every score, and the best one so far."""

import math
from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.best_so_far import Unit, best_so_far
from tuneflow.analysis.lecun_start import measured_start
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.ties import ties_of
from tuneflow.markup.scales import Axis
from tuneflow.plot.canvas import Ink, axes_of, ink_of
from tuneflow.plot.labels import EndLabel, name_ends
from tuneflow.plot.scaling import inside, set_scale
from tuneflow.plot.score_points import draw_scores
from tuneflow.plot.subject import Subject, subject_of
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END = 1.02  # of the horizontal axis, in units of the last place
TITLES = {"trials": "trial", "epochs": "epochs trained", "seconds": "seconds of training"}


def history(
    study: Recorded | StudyRecord, metric: str | None = None, unit: Unit = "trials", ax: "Axes | None" = None
) -> "Axes":
    """Draw the score of each trial in the order in which they ended, and the best one so far.

    Shares are on a logarithmic axis of their error, losses over a wide range on a logarithmic one. Scores have their
    standard errors, in studies of up to 200 trials; the band is that of scores that tie with the best, by two standard
    errors of a difference. Trials that were stopped early are hollow, those beyond a limit grey crosses; those that
    failed or diverged are crosses at the worse edge, and those far worse than the others triangles there. A ring is
    about the first trial at a learning rate that was measured, as LeCun's rules do.

    Args:
        study: a study, or a folder that `tn.open` reads.
        metric: one of those that the study is tuned for; None for the first.
        unit: what the horizontal axis counts: "trials", "epochs" or "seconds".
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the study is not tuned for the metric, or the unit is none of the three.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    if unit not in TITLES:
        raise ValueError(f'tn.plot.history: unit needs to be "trials", "epochs" or "seconds", got {unit!r}.')
    subject = subject_of(study, metric, "history")
    ax = axes_of(ax)
    ink = ink_of(ax)
    best = best_so_far(subject.record, unit, subject.goal)
    at = np.asarray(best.numbers, dtype=float) if unit == "trials" else best.spent
    set_scale(ax, "y", subject.plain_axis, subject.ones)
    set_scale(ax, "x", _across(at, unit))
    draw_scores(ax, subject, best.numbers, at, ink)
    ax.step(at, inside(ax, "y", best.best), where="post", color=ink.accent, linewidth=1.8, label="best so far")
    ax.set_xlabel(TITLES[unit])
    ax.set_ylabel(subject.metric)
    _name_best(ax, subject, at, best.best, ink)
    _mark_start(ax, subject, at[(best.numbers == _start(subject)) & np.isfinite(best.scores)], ink)
    return ax


def _across(at: Array, unit: Unit) -> Axis:
    """Return the horizontal scale: of the trials' numbers, or of what was spent from 0 on."""
    last = float(at.max(initial=0.0))
    return Axis(-0.5, last + 0.5, whole=True) if unit == "trials" else Axis(0.0, END * last, unit == "epochs")


def _name_best(ax: "Axes", subject: Subject, at: Array, best: Array, ink: Ink) -> None:
    """Draw the band of the ties, and name the best score at the end of its line."""
    if not len(best) or np.isnan(best[-1]):
        return
    ties, leader, metric = ties_of(subject.record), subject.record.history.leader, subject.metric
    text = "best so far"
    if leader is not None:
        text = f"trial {leader.number}\n{rounded_text(leader.metrics[metric], leader.errors.get(metric, math.nan))}"
    if ties is not None and ties.reach > 0:
        middle = ties.best.metrics[metric]
        ax.axhspan(middle - ties.reach, middle + ties.reach, color=ink.accent, alpha=0.1, linewidth=0, zorder=0)
    name_ends(ax, [EndLabel(float(at[-1]), float(inside(ax, "y", best[-1])), text, ink.accent)])


def _start(subject: Subject) -> int:
    """Return the number of the trial at the learning rate that LeCun's rules measured; -1 without one."""
    start = measured_start(subject.record)
    return -1 if start is None else start.number


def _mark_start(ax: "Axes", subject: Subject, at: Array, ink: Ink) -> None:
    """Draw a ring about LeCun's start where it has a place."""
    for place in at:
        point = place, inside(ax, "y", subject.scores[_start(subject)])
        ax.plot(*point, "o", ms=9, mfc="none", mec=ink.second, mew=1.3, label="LeCun's start", zorder=5)
        high = ax.transAxes.inverted().transform(ax.transData.transform(point))[1] > 0.5
        offset = 8, -12 if high else 5
        ax.annotate("LeCun's start", point, offset, textcoords="offset points", fontsize="small", color=ink.second)
