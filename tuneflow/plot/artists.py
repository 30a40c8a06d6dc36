"""Parts of matplotlib with what they lack: axes that a notebook shows, ticks as the pages have them.

Imported when the first plot is drawn, as matplotlib is an extra.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Locator, ScalarFormatter
from typing_extensions import override

from tuneflow.markup.ticks import Tick

MOST = 6  # ticks of an axis
FINE = 2  # pixels of a notebook's picture for each of the figure's, for screens of high density


class ShownAxes(Axes):
    """The axes of a figure of their own, which a notebook shows where they end a cell."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        figure: Any = self.get_figure(root=True)
        picture = BytesIO()
        figure.savefig(picture, format="png", dpi=FINE * figure.dpi)
        width, height = (figure.get_size_inches() * figure.dpi).astype(int).tolist()
        return picture.getvalue(), {"width": width, "height": height}


class RoundTicks(Locator):
    """Ticks that a function of both ends of the view gives.

    Args:
        between: maps the lower and the upper end, and a number of ticks, to ticks.
        low: the lowest value that the scale has; ticks below it are left out.
        high: the highest.
    """

    def __init__(self, between: Callable[[float, float, int], Sequence[Tick]], low: float, high: float) -> None:
        self.between, self.low, self.high = between, low, high

    @override
    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    @override
    def tick_values(self, vmin: float, vmax: float) -> Any:
        low, high = max(min(vmin, vmax), self.low), min(max(vmin, vmax), self.high)
        most = min(MOST, max(3, self.axis.get_tick_space())) if self.axis is not None else MOST
        return np.array([value for value, _ in self.between(low, high, most)] if low < high else [low])


class PlainNumbers(ScalarFormatter):
    """Numbers without a common offset; thousands are told apart by commas."""

    def __init__(self) -> None:
        super().__init__(useOffset=False)

    @override
    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:,.0f}" if 1e3 <= abs(x) < 1e7 and x == round(x) else super().__call__(x, pos)
