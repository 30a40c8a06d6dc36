"""A frame with two axes as SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tuneflow.markup.html import Markup, element, joined
from tuneflow.markup.paths import Point
from tuneflow.markup.scales import Axis
from tuneflow.markup.texts import LETTER, apart, text_at
from tuneflow.markup.ticks import Tick

TICK = 16  # pixels below the frame to the baseline of a tick's text


@dataclass(frozen=True)
class Frame:
    """A plane between two axes, of a fixed size in pixels; a page may show it smaller or larger.

    Args:
        across: the horizontal scale.
        up: the vertical scale.
        width: of the whole picture.
        height: of the whole picture.
        margins: pixels above, to the right of, below and to the left of the plane.
        titles: of the horizontal and the vertical axis, with units.
        ticks: the most ticks of the horizontal and the vertical axis; 0 for none.
    """

    across: Axis
    up: Axis
    width: int = 640
    height: int = 280
    margins: tuple[int, int, int, int] = (24, 16, 40, 56)
    titles: tuple[str, str] = ("", "")
    ticks: tuple[int, int] = (8, 6)

    @property
    def top(self) -> int:
        """The upper edge of the plane."""
        return self.margins[0]

    @property
    def right(self) -> int:
        """The right edge of the plane."""
        return self.width - self.margins[1]

    @property
    def bottom(self) -> int:
        """The lower edge of the plane."""
        return self.height - self.margins[2]

    @property
    def left(self) -> int:
        """The left edge of the plane."""
        return self.margins[3]

    def x(self, value: float) -> float:
        """Return the horizontal position of a value, in pixels."""
        return self.left + self.across.position(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the vertical position of a value, in pixels from the top."""
        return self.bottom - self.up.position(value) * (self.bottom - self.top)

    def at(self, x: float, y: float) -> Point:
        """Return the position of a pair of values, in pixels."""
        return self.x(x), self.y(y)

    def points(self, pairs: Iterable[Point]) -> list[Point]:
        """Return the positions of pairs of values, in pixels."""
        return [self.at(x, y) for x, y in pairs]

    def svg(self, *content: Any, label: str, **attributes: Any) -> Markup:
        """Return the picture: grid, axes, titles, and `content` over them.

        Args:
            *content: markup, in pixels of this frame.
            label: a sentence for those who do not see it.
            **attributes: of the svg element.
        """
        return picture(
            self.width, self.height, self._across(), self._up(), self._titles(), *content, label=label, **attributes
        )

    def _across(self) -> Markup:
        base = element("path", d=f"M{self.left} {self.bottom}H{self.right}", class_="axis")
        ticks = self.across.ticks(self.ticks[0]) if self.ticks[0] else []
        places = [(self.x(value), text) for value, text in ticks]
        shown = apart([(self._inside(x, text), text) for x, text in places])
        marks = element("path", d="".join(f"M{x:.1f} {self.bottom}v4" for x, _ in places), class_="axis")
        texts = [text_at(x, self.bottom + TICK, text, "tick middle") for x, text in shown]
        return joined(base, marks if places else None, *texts)

    def _inside(self, x: float, text: str) -> float:
        """Return the place near `x` at which a text in the middle of it is whole."""
        half = LETTER * len(text) / 2
        return max(half, min(self.width - half, x))

    def _up(self) -> Markup:
        ticks: Sequence[Tick] = self.up.ticks(self.ticks[1]) if self.ticks[1] else ()
        places = [(self.y(value), text) for value, text in ticks]
        lines = "".join(f"M{self.left} {y:.1f}H{self.right}" for y, _ in places)
        texts = [text_at(self.left - 6, y + 4, text, "tick end") for y, text in places]
        return joined(element("path", d=lines, class_="grid") if lines else None, *texts)

    def _titles(self) -> Markup:
        across, up = self.titles
        return joined(
            text_at((self.left + self.right) / 2, self.height - 6, across, "title middle") if across else None,
            text_at(4, 13, up, "title") if up else None,
        )


def standalone(chart: Markup) -> Markup:
    """Return a picture with the style of its parts, on white, for a file of its own."""
    return styled(chart, ".chart { background: white; }")


def styled(chart: Markup, more: str = "") -> Markup:
    """Return a picture with the style of its parts, and `more` rules, in the colors of what it stands in."""
    rules = files("tuneflow.markup").joinpath("chart.css").read_text("utf-8")
    style = element("style", Markup(rules + more))
    opening, rest = chart.split(">", 1)
    return Markup(f"{opening}>{style}{rest}")


def picture(width: int, height: int, *content: Any, label: str, **attributes: Any) -> Markup:
    """Return an svg element of a size in pixels, which has a label for those who do not see it.

    Its parts are colored by their classes, of which `chart.css` has the rules.

    Args:
        width: in pixels.
        height: in pixels.
        *content: markup.
        label: a sentence.
        **attributes: of the element; the class comes after "chart".
    """
    attributes["class_"] = " ".join(filter(None, ["chart", attributes.get("class_")]))
    return element(
        "svg", element("title", label), *content,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
        aria_label=label, **attributes,
    )  # fmt: skip
