"""The plot of the parameters' importance, with intervals."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.analysis.importance import importance_of
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.short_names import short_names
from tuneflow.plot.canvas import axes_of, ink_of, literal
from tuneflow.plot.subject import subject_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EACH, LEAST = 0.36, 1.8  # inches of height for each parameter, and of the whole


def importance(study: Recorded | StudyRecord, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the importance of each parameter with its 90 % interval, the most important one on top.

    The shares are those of `study.importance()`. They may add up to more than 1. One whose interval is too wide to say
    much is pale.

    Args:
        study: a study, or a folder that `tn.open` reads.
        metric: one of those that the study is tuned for; None for the first.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        NothingFinished: too few trials have a score, or the space has no parameter.
        ValueError: the study is not tuned for the metric.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    subject = subject_of(study, metric, "importance")
    found = importance_of(subject.record, subject.metric)
    ax = axes_of(ax, height=max(LEAST, EACH * len(found) + 1))
    ink = ink_of(ax)
    names = short_names(found)
    shares = list(found.values())
    colors = [(*(ink.accent if place == 0 else ink.grey), 0.45 if s.wide else 1.0) for place, s in enumerate(shares)]
    values, low, high = (np.array([getattr(share, end) for share in shares]) for end in ("value", "low", "high"))
    ax.barh(range(len(shares)), values, 0.62, color=colors)
    ends = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
    ax.errorbar(values, range(len(shares)), xerr=ends, fmt="none", ecolor=ink.text, elinewidth=1.2, capsize=2.5)
    ax.set_yticks(range(len(shares)), [literal(names[share.name]) for share in shares])
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlim(0, max(1.0, float(high.max()) * 1.02))
    ax.tick_params("y", length=0)
    ax.set_xlabel(literal(f"share of variance of {subject.metric}"))
    return ax
