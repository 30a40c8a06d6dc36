"""Scales and ticks of matplotlib's axes, from the scales that the pages use too."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tuneflow.markup.scales import Axis, LabelAxis, LogAxis, ShareAxis
from tuneflow.markup.ticks import Tick, log_label, log_ticks, share_ticks
from tuneflow.plot.canvas import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSIDE = 22.0  # parts of a scale of shares; a share of exactly 1 is one of them below its upper end
NEAREST = 1e-9  # the least error that has a tick


def set_scale(ax: "Axes", which: Literal["x", "y"], scale: Axis, limits: bool = True) -> None:
    """Give one of the axes a scale with its ticks and limits; to be called before anything is drawn.

    Args:
        ax: the axes.
        which: the axis.
        scale: the scale.
        limits: True to set its limits, widened to those that the axes have where something is drawn in them already.
    """
    before = getattr(ax, f"get_{which}lim")() if ax.has_data() else ()
    axis, change = getattr(ax, f"{which}axis"), getattr(ax, f"set_{which}scale")
    if isinstance(scale, LabelAxis):
        axis.set_ticks(range(len(scale.labels)), [literal(label) for label in scale.labels])
    elif isinstance(scale, LogAxis):
        change("log")
        _set_ticks(axis, log_ticks, 0.0, math.inf, lambda value, _: log_label(value))
    elif isinstance(scale, ShareAxis):
        change("function", functions=_by_error(scale))
        _set_ticks(axis, _ticks_of_shares, -math.inf, 1 - NEAREST, lambda value, _: f"{value:.10g}")
    else:
        _set_plain_ticks(axis, scale.whole)
    if limits:
        getattr(ax, f"set_{which}lim")(min(scale.low, *before, scale.high), max(scale.low, *before, scale.high))


def _set_plain_ticks(axis: Any, whole: bool) -> None:
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole))
    axis.set_major_formatter(ScalarFormatter(useOffset=False))


def _set_ticks(
    axis: Any,
    between: Callable[[float, float, int], Sequence[Tick]],
    low: float,
    high: float,
    text: Callable[[float, Any], str],
) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    from tuneflow.plot.artists import RoundTicks

    axis.set_major_locator(RoundTicks(between, low, high))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(text))


def _ticks_of_shares(low: float, high: float, most: int) -> list[Tick]:
    return share_ticks(1 - low, 1 - high, most)


def _by_error(scale: ShareAxis) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the map of shares to the negative logarithm of their error, and its inverse."""
    low, high = scale.ends
    nearest = (1 - high) * ((1 - low) / (1 - high)) ** (1 / INSIDE)
    return partial(_minus_log_error, nearest=nearest), _share


def _minus_log_error(share: Any, nearest: float) -> Any:
    return -np.log10(np.maximum(1 - np.asarray(share, dtype=float), nearest))


def _share(place: Any) -> Any:
    return 1 - 10 ** -np.asarray(place, dtype=float)
