"""The plot of the shares of trials that reach each score, to compare searchers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.methods import Method, methods_of
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.errors import listed
from tuneflow.markup.scales import score_axis
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal
from tuneflow.plot.scaling import inside, set_scale
from tuneflow.plot.subject import Subject, studied
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", "-.", ":")


def ecdf(*studies: Recorded | StudyRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of a study's trials that are at least as good as each score, a line for each method.

    The higher the line, the more of the trials are good. Trials that failed or diverged count among the others and
    reach no score; those that have not ended do not count. Studies that differ in nothing but their seed are taken
    together; the lines are named by the settings that differ, such as the searcher.

    Args:
        studies: studies of one objective, or folders that `tn.open` reads.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: there is no study, one has several objectives, or they have different ones.
        TypeError: one of them is not a study.
        ImportError: matplotlib is not installed.
    """
    records = [studied(study, "ecdf") for study in studies]
    goals = {record.objective.goals for record in records}
    if len(goals) == 1 and records[0].objective.several:
        names = listed(name for name, _ in records[0].objective.goals)
        raise ValueError(f"tn.plot.ecdf needs studies of one objective, got {names}; tn.plot.front draws two.")
    if len(goals) != 1:
        every = dict.fromkeys(f"{name} {'maximized' if up else 'minimized'}" for goal in goals for name, up in goal)
        raise ValueError(f"tn.plot.ecdf needs studies of one and the same objective, got {listed(sorted(every))}.")
    ax = axes_of(ax)
    subjects = [Subject(record) for record in records]
    scale = score_axis(np.concatenate([s.scores[s.scored] for s in subjects]), subjects[0].maximize)
    set_scale(ax, "x", scale, any(subject.ones for subject in subjects))
    ax.set_ylim(0, 1)
    ax.set_xlabel(literal(subjects[0].metric))
    ax.set_ylabel("share of trials at least as good")
    _draw(ax, methods_of(records), subjects[0].maximize, ink_of(ax))
    return ax


def _draw(ax: "Axes", methods: Sequence[Method], maximize: bool, ink: Ink) -> None:
    for place, method in enumerate(methods):
        scores, shares = shares_of([Subject(record) for record in method.records], maximize)
        color = (ink.accent, ink.second, ink.quiet, ink.bad)[place % 4]
        label = f"{method.name} ({len(method.records)} studies)" if len(method.records) > 1 else method.name
        label += "" if len(scores) else ", no score"
        dashes = DASHES[(place + place // 4) % 4]
        ax.step(inside(ax, "x", scores), shares, dashes, where="post", color=color, linewidth=1.6, label=literal(label))
    ax.legend(frameon=False, labelcolor="linecolor", loc="upper right" if maximize else "lower right")


def shares_of(subjects: list[Subject], maximize: bool) -> tuple[Array, Array]:
    """Return the scores of several studies, the best first, and the shares of ended trials that are as good.

    The best score comes twice, first with a share of 0.
    """
    scores = np.sort(np.concatenate([subject.scores[subject.scored] for subject in subjects]))
    scores = scores[::-1] if maximize else scores
    ended = sum(len(subject.record.history.finished) for subject in subjects)
    return np.append(scores[:1], scores), np.arange(len(scores) + bool(len(scores))) / max(1, ended)
