"""Labels that stand directly at what they name, apart from each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneflow.plot.canvas import Color, Ink, ink_of, literal, width_of
from tuneflow.space.coordinates import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

APART = 1.25  # heights of letters from one line of text to the next
LETTER = 0.75  # heights of letters that one is wide, with some room
BESIDE = 6.0  # points from the end of a line to its name


@dataclass(frozen=True)
class EndLabel:
    """The name of a line, to the right of its end.

    Attributes:
        x: of the line's end, in units of the data.
        y: of the line's end, in units of the data.
        text: the name.
        color: the line's.
    """

    x: float
    y: float
    text: str
    color: Color


def name_ends(ax: "Axes", labels: Sequence[EndLabel]) -> None:
    """Write the names of lines at their ends; those that would overlap are moved apart vertically.

    The limits of the axes need to be set before.
    """
    size = _small()
    figure: Any = ax.get_figure(root=True)
    heights = np.array([ax.transData.transform((label.x, label.y))[1] for label in labels]) * 72 / figure.dpi
    for label, height, place in zip(labels, heights, _apart(heights, APART * size), strict=True):
        ax.annotate(
            literal(label.text),
            (label.x, label.y),
            (BESIDE, place - height),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=label.color,
            annotation_clip=False,
        )


def name_points(ax: "Axes", points: Array, names: Sequence[str], color: Color) -> None:
    """Write names beside points, the first ones first; where one would lie on another it is left out.

    The limits of the axes need to be set before.

    Args:
        ax: the axes.
        points: shape (n, 2), in units of the data.
        names: one for each.
        color: of the names.
    """
    figure: Any = ax.get_figure(root=True)
    size = _small()
    written: list[Any] = []  # places of names, in points
    for point, name in zip(points, names, strict=True):
        place = ax.transData.transform(point) * 72 / figure.dpi
        room = np.array([0.7 * size * len(name), APART * size])
        if all((np.abs(place - other) > room).any() for other in written):
            written.append(place)
            ax.annotate(literal(name), point, (4, 4), textcoords="offset points", fontsize=size, color=color)


def mark_value(ax: "Axes", x: float, text: str, color: Color, line: int = 0) -> None:
    """Draw a dashed vertical line at a value, with its name at the upper edge, on the side with more room.

    The limits of the axes need to be set before.

    Args:
        ax: the axes.
        x: the value.
        text: its name.
        color: of both.
        line: number of lines of text that the name stands below the upper edge.
    """
    left = ax.transAxes.inverted().transform(ax.transData.transform((x, ax.get_ylim()[0])))[0] > 0.5
    ax.axvline(x, color=color, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(
        literal(text),
        (x, 1.0),
        (-4 if left else 4, -APART * _small() * (line + 0.5)),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize="small",
        color=color,
        bbox={"facecolor": ink_of(ax).ground, "edgecolor": "none", "pad": 1},
        annotation_clip=False,
    )


def write_ticks(ax: "Axes", ticks: Sequence[tuple[float, float, str]], ink: Ink) -> None:
    """Write ticks of a vertical axis inside the plot: place, height, both in units of the data, and text."""
    for place, height, text in ticks:
        ax.annotate(
            literal(text),
            (place, height),
            (-4, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize="x-small",
            color=ink.quiet,
            bbox={"facecolor": (*ink.ground, 0.75), "edgecolor": "none", "pad": 0.5},
            zorder=5,
        )


def slope_of(ax: "Axes", names: Sequence[str]) -> float:
    """Return the angle, in degrees, at which names stand side by side across the width of axes: 0 where they fit."""
    longest = max(map(len, names), default=0)
    return 0.0 if longest * LETTER * _small() / 72 * len(names) < width_of(ax) else 25.0


def _small() -> float:
    """Return the height of small letters in points, as the style in use has them."""
    from matplotlib.font_manager import FontProperties

    return float(FontProperties(size="small").get_size_in_points())


def _apart(heights: Any, least: float) -> Any:
    """Return heights at least so far apart, in the same order; those too close are spread about their mean."""
    order = np.argsort(heights, kind="stable")
    steps = least * np.arange(len(heights))
    blocks: list[tuple[float, int]] = []  # mean and number of those that touch
    for height in heights[order] - steps:
        blocks.append((height, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, count), (other, more) = blocks[-2:]
            blocks[-2:] = [((one * count + other * more) / (count + more), count + more)]
    places = np.repeat([mean for mean, _ in blocks], [count for _, count in blocks]) + steps
    return places[np.argsort(order)]
