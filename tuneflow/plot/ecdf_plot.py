"""The plot of the shares of trials that reach each score, to compare searchers."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.markup.scales import score_axis
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal
from tuneflow.plot.scaling import set_scale
from tuneflow.plot.subject import Subject, subject_of
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES = ("-", "--", "-.", ":")


def ecdf(*studies: Recorded | StudyRecord, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the share of a study's trials that are at least as good as each score, a line for each searcher.

    The higher the line, the more of the trials are good. Trials that failed or diverged count among the others and
    reach no score; those that have not ended do not count. Studies of one searcher are taken together.

    Args:
        studies: studies of one metric, or folders that `tn.open` reads.
        metric: one of those that they are tuned for; None for the first of each.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: there is no study, or they are tuned for different metrics or directions.
        TypeError: one of them is not a study.
        ImportError: matplotlib is not installed.
    """
    subjects = [subject_of(study, metric, "ecdf") for study in studies]
    goals = {(subject.metric, subject.maximize): subject for subject in subjects}
    if len(goals) != 1:
        got = " and ".join(f"{name} {'maximized' if up else 'minimized'}" for name, up in goals) or "no study"
        raise ValueError(f"tn.plot.ecdf needs studies of one metric and direction, got {got}; metric= chooses one.")
    ax = axes_of(ax)
    ink = ink_of(ax)
    first = subjects[0]
    scale = score_axis(np.concatenate([s.scores[s.scored] for s in subjects]), first.maximize)
    set_scale(ax, "x", scale, any(subject.ones for subject in subjects))
    ax.set_ylim(0, 1)
    ax.set_xlabel(literal(first.metric))
    ax.set_ylabel("share of trials at least as good")
    _draw(ax, _by_searcher(subjects), first.maximize, ink)
    return ax


def _by_searcher(subjects: list[Subject]) -> dict[str, list[Subject]]:
    """Return the studies of each searcher, by its name, with its settings where two have the same name."""
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(str(subject.record.facts["searcher"]), []).append(subject)
    short = [text.partition("(")[0] for text in groups]
    names = [name if short.count(name) == 1 else text for text, name in zip(groups, short, strict=True)]
    return dict(zip(names, groups.values(), strict=True))


def _draw(ax: "Axes", groups: dict[str, list[Subject]], maximize: bool, ink: Ink) -> None:
    for place, (name, subjects) in enumerate(groups.items()):
        scores, shares = shares_of(subjects, maximize)
        color = (ink.accent, ink.second, ink.quiet, ink.bad)[place % 4]
        label = f"{name} ({len(subjects)} studies)" if len(subjects) > 1 else name
        dashes = DASHES[(place + place // 4) % 4]
        ax.step(scores, shares, dashes, where="post", color=color, linewidth=1.6, label=literal(label))
    ax.legend(frameon=False, labelcolor="linecolor", loc="upper right" if maximize else "lower right")


def shares_of(subjects: list[Subject], maximize: bool) -> tuple[Array, Array]:
    """Return the scores of several studies, the best first, and the shares of ended trials that are as good.

    The best score comes twice, first with a share of 0.
    """
    scores = np.sort(np.concatenate([subject.scores[subject.scored] for subject in subjects]))
    scores = scores[::-1] if maximize else scores
    ended = sum(len(subject.record.history.finished) for subject in subjects)
    return np.append(scores[:1], scores), np.arange(len(scores) + bool(len(scores))) / max(1, ended)
