"""Canvas: the axes that a plot is drawn into, and colors that are readable on their background."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.4, 4.0  # inches
ROOM = 0.1  # inches around the axes of a new figure, for markers and labels at their ends
LONGEST = 40  # letters of a text
DARK = 0.4  # luminance below which a background is dark
# The colors of the pages: the accent, a second one, and the one of failures, on light and on dark backgrounds.
ACCENT, SECOND, BAD = ("#0b62a8", "#6cb6f5"), ("#a84a0b", "#f0a86c"), ("#b3261e", "#ff8f85")

Color = tuple[float, float, float]


def axes_of(ax: "Axes | None", width: float = WIDTH, height: float = HEIGHT) -> "Axes":
    """Return `ax`, or the axes of a new figure, which pyplot does not know and a notebook shows.

    Args:
        ax: the axes to draw into; None for new ones.
        width: of the new figure, in inches.
        height: of the new figure, in inches.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `ax` is not axes.
    """
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure

        from tuneflow.plot.artists import ShownAxes
    except ModuleNotFoundError as error:
        raise ImportError("tn.plot needs matplotlib: python -m pip install matplotlib.") from error
    if ax is None:
        figure = Figure(figsize=(width, height), layout="constrained")
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=ROOM, h_pad=ROOM)
        ax = figure.add_subplot(axes_class=ShownAxes)
    if not isinstance(ax, Axes):
        raise TypeError(f"tn.plot: ax needs to be one matplotlib Axes, got {type(ax).__name__}; of several, one each.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def width_of(ax: "Axes") -> float:
    """Return the width of axes in inches, before the figure is laid out anew."""
    figure: Any = ax.get_figure(root=True)
    return float(ax.get_window_extent().width / figure.dpi)


@dataclass(frozen=True)
class Ink:
    """Colors for one background.

    Attributes:
        ground: of the background.
        text: of words and of what stands out without the accent.
        quiet: of lesser words and of marks.
        grey: of what is context only.
        faint: of grid lines and of gaps.
        accent: of the best.
        second: of what is compared with it.
        bad: of failures.
    """

    ground: Color
    text: Color
    quiet: Color
    grey: Color
    faint: Color
    accent: Color
    second: Color
    bad: Color


def ink_of(ax: "Axes") -> Ink:
    """Return the colors for the background of some axes, and for the style that they were made in."""
    from matplotlib.colors import to_rgb

    text, ground = to_rgb(ax.xaxis.label.get_color()), _ground(ax)
    dark = 0.2126 * ground[0] + 0.7152 * ground[1] + 0.0722 * ground[2] < DARK
    accent, second, bad = (to_rgb(pair[dark]) for pair in (ACCENT, SECOND, BAD))
    quiet, grey, faint = (_mixed(text, ground, share) for share in (0.7, 0.42, 0.15))
    return Ink(ground, text, quiet, grey, faint, accent, second, bad)


def _ground(ax: "Axes") -> Color:
    """Return the color behind the axes: their own, that of the figure below, or white where both let it through."""
    from matplotlib.colors import to_rgba

    figure: Any = ax.get_figure(root=True)
    color: Color = (1.0, 1.0, 1.0)
    for face in (figure.get_facecolor(), ax.get_facecolor()):
        *own, alpha = to_rgba(face)
        color = _mixed((own[0], own[1], own[2]), color, alpha)
    return color


def _mixed(over: Color, below: Color, share: float) -> Color:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(over, below, strict=True))
    return red, green, blue


def literal(text: object) -> str:
    """Return text that matplotlib shows as it is, a dollar sign too; of a long one the end, which tells names apart."""
    shown = str(text)
    return (shown if len(shown) <= LONGEST else f"…{shown[1 - LONGEST :]}").replace("$", r"\$")
