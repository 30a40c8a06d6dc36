"""The plot of a front: the trials of a study in two of its objectives."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.plot.canvas import axes_of, ink_of, literal
from tuneflow.plot.labels import name_points
from tuneflow.plot.scaling import inside, set_scale
from tuneflow.plot.subject import Subject, studied, subject_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = {True: "more is better", False: "less is better"}


def front(
    study: Recorded | StudyRecord, x: str | None = None, y: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the trials of a study in two of its objectives, and those that no other one beats in all of them.

    The front is joined by a line of steps, within which lies what it beats; with more than two objectives it has
    points that look beaten in two of them, and no line. Its members are named by their numbers, with standard errors;
    dashed lines are limits.

    Args:
        study: a study with several objectives, or a folder that `tn.open` reads.
        x: the metric of the horizontal axis; None for the first objective.
        y: the metric of the vertical axis; None for the second.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the study has one objective, or is not tuned for a metric.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    goals = [metric for metric, _ in studied(study, "front").objective.goals]
    if len(goals) == 1:
        raise ValueError(f"tn.plot.front needs two objectives, got {goals[0]} alone; tn.plot.history draws one.")
    across, up = (subject_of(study, metric, "front") for metric in (x or goals[0], y or goals[1]))
    if across.metric == up.metric:
        raise ValueError(f"tn.plot.front needs two different metrics, got {up.metric} twice; choose of {goals}.")
    ax = axes_of(ax)
    for which, subject in (("x", across), ("y", up)):
        set_scale(ax, which, subject.plain_axis, subject.ones)  # type: ignore[arg-type]
        getattr(ax, f"set_{which}label")(literal(f"{subject.metric}, {SIDES[subject.maximize]}"))
        _mark_limits(ax, which, subject)
    _draw(ax, across, up)
    return ax


def _mark_limits(ax: "Axes", which: str, subject: Subject) -> None:
    """Draw the bounds of a metric's limits."""
    draw, ink = ax.axvline if which == "x" else ax.axhline, ink_of(ax)
    for limit in subject.record.objective.limits:
        for bound in limit.bounds if limit.metric == subject.metric else []:
            draw(bound, color=ink.quiet, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=literal(limit))


def _draw(ax: "Axes", across: Subject, up: Subject) -> None:
    ink = ink_of(ax)
    within = across.within[across.scored]
    kinds = ("beaten", "o", across.scored[within]), ("beyond a limit", "x", across.scored[~within])
    for label, marker, numbers in kinds:
        if len(numbers):
            places = inside(ax, "x", across.scores[numbers]), inside(ax, "y", up.scores[numbers])
            ax.plot(*places, marker, color=ink.grey, ms=4, label=label)
    members = sorted(across.record.history.front, key=lambda trial: trial.metrics[across.metric])
    if not members:
        return
    scores = [np.array([trial.metrics[subject.metric] for trial in members]) for subject in (across, up)]
    at = inside(ax, "x", scores[0]), inside(ax, "y", scores[1])
    bars = [np.array([trial.errors.get(subject.metric, 0.0) for trial in members]) for subject in (across, up)]
    if len(across.record.objective.goals) == 2:
        ax.step(*at, where="pre" if across.maximize else "post", color=ink.accent, linewidth=1, alpha=0.6)
    ax.errorbar(at[0], at[1], bars[1], bars[0], fmt="o", color=ink.accent, ms=6, elinewidth=1, label="front")
    name_points(ax, np.array(at).T, [str(trial.number) for trial in members], ink.accent)
