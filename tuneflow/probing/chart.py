"""A small line chart over a learning rate, with marks."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element, joined
from tuneflow.markup.paths import dots_of, line_of
from tuneflow.markup.scales import log_axis_of, score_axis
from tuneflow.markup.texts import spread_out, text_at

SIZE = (480, 270)
ROW = 14  # pixels between the names of marks, which stand below each other above the plane
LETTER = 7  # pixels of a letter of a name beside a line, at most

Line = Sequence[tuple[float, float]]


def chart(lines: Mapping[str, Line], marks: Mapping[str, float], across: str, up: str) -> Markup:
    """Return lines over a logarithmic horizontal axis, with vertical marks.

    Args:
        lines: name to points (x, y), x > 0; points that are not finite are left out.
        marks: name to the x of a vertical line.
        across: title of the horizontal axis.
        up: title of the vertical axis, a loss.

    Returns:
        An SVG element for a page with the style of charts; `standalone` adds the style.

    Raises:
        ValueError: there is no finite point.
    """
    drawn = {name: sorted(filter(_drawable, line)) for name, line in lines.items()}
    drawn = {name: line for name, line in drawn.items() if line}
    if not drawn:
        raise ValueError("chart: needs at least one finite point.")
    marked = {name: x for name, x in marks.items() if x > 0}
    frame = _frame(drawn, marked, (across, up))
    names = _names(frame, drawn) if len(drawn) > 1 else ()
    drawings = (_line(frame, line) for line in drawn.values())
    return frame.svg(*_marks(frame, marked), *drawings, *names, label=f"{up} over {across}")


def _drawable(point: tuple[float, float]) -> bool:
    return point[0] > 0 and math.isfinite(point[1])


def _frame(lines: Mapping[str, Line], marks: Mapping[str, float], titles: tuple[str, str]) -> Frame:
    """Return a frame with room for the names of several lines at its right, and for those of marks above."""
    points = [point for line in lines.values() for point in line]
    right = LETTER * max(map(len, lines)) if len(lines) > 1 else 0
    across = log_axis_of([*(x for x, _ in points), *marks.values()])
    margins = (24 + ROW * len(marks), 16 + right, 40, 56)
    up = score_axis((y for _, y in points), maximize=False)
    return Frame(across, up, *SIZE, margins=margins, titles=titles)


def _line(frame: Frame, line: Line) -> Markup:
    points = frame.points(line)
    return joined(
        element("path", d=line_of(points), class_="lines best"), element("path", d=dots_of(points), class_="dots best")
    )


def _names(frame: Frame, lines: Mapping[str, Line]) -> list[Markup]:
    """Return the name of each line at its right end."""
    ends = spread_out([frame.y(line[-1][1]) for line in lines.values()], ROW, frame.top, frame.bottom)
    return [
        text_at(frame.x(line[-1][0]) + 8, y + 4, name, "best")
        for (name, line), y in zip(lines.items(), ends, strict=True)
    ]


def _marks(frame: Frame, marks: Mapping[str, float]) -> Iterable[Markup]:
    for row, (name, x) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        place, y = frame.x(x), frame.top - ROW * (len(marks) - row - 1)
        yield element("path", d=line_of([(place, y), (place, frame.bottom)]), class_="mark")
        beyond = place + LETTER * len(name) > frame.width
        yield text_at(place + (-4 if beyond else 4), y, name, "end" if beyond else "")
