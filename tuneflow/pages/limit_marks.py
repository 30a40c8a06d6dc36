"""Marks of limits: lines in a chart at the bounds of the metrics on its axes."""

from collections.abc import Sequence

from tuneflow.history.objective import Objective
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import line_of
from tuneflow.markup.texts import text_at


def limit_marks(frame: Frame, objective: Objective, names: Sequence[str]) -> list[Markup]:
    """Return a line with its words for each bound of a limit that is within the frame.

    Args:
        frame: the chart's.
        objective: the study's, with the limits.
        names: of the metrics on the horizontal and the vertical axis.
    """
    marks = []
    for limit in objective.limits:
        for word, bound in (("at least", limit.least), ("at most", limit.most)):
            if bound is not None and limit.metric in names:
                marks += _mark(frame, names.index(limit.metric), bound, f"{word} {bound:g}")
    return marks


def _mark(frame: Frame, axis: int, bound: float, words: str) -> list[Markup]:
    low, high = (frame.across, frame.up)[axis].ends
    if not low <= bound <= high:
        return []
    if axis == 0:
        x = frame.x(bound)
        line = element("path", d=line_of([(x, frame.top), (x, frame.bottom)]), class_="mark")
        return [line, text_at(x + 4, frame.top + 10, words, "tick")]
    y = frame.y(bound)
    line = element("path", d=line_of([(frame.left, y), (frame.right, y)]), class_="mark")
    return [line, text_at(frame.right, y - 4, words, "tick end")]
