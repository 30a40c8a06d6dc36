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

ROOM = 0.05  # of a scale, above a share of exactly 1
NEAREST = 1e-9  # the least error that has a tick, or a place of its own


def set_scale(ax: "Axes", which: Literal["x", "y"], scale: Axis, ones: bool = False) -> None:
    """Give one of the axes a scale with its ticks and limits; to be called before anything is drawn.

    Where something is drawn in the axes already, their limits are widened.

    Args:
        ax: the axes.
        which: the axis.
        scale: the scale.
        ones: True if there are shares of exactly 1, which a scale of errors needs a place for.
    """
    low, high = _apart(scale)
    before = getattr(ax, f"get_{which}lim")() if ax.has_data() else ()
    axis, change = getattr(ax, f"{which}axis"), getattr(ax, f"set_{which}scale")
    if isinstance(scale, LabelAxis):
        axis.set_ticks(range(len(scale.labels)), [literal(label) for label in scale.labels])
    elif isinstance(scale, LogAxis):
        change("log")
        _set_ticks(axis, log_ticks, 0.0, math.inf, lambda value, _: log_label(value))
    elif isinstance(scale, ShareAxis):
        shift = _place_of_ones(low, high) if ones else 0.0
        high = 1 + shift * (1 - (shift / (1 - low)) ** ROOM) if ones else high
        change("function", functions=(partial(_by_error, shift=shift), partial(_share, shift=shift)))
        _set_ticks(axis, _ticks_of_shares, -math.inf, 1 - NEAREST, lambda value, _: f"{value:.10g}")
    else:
        _set_plain_ticks(axis, scale.whole)
    getattr(ax, f"set_{which}lim")(min(low, high, *before), max(low, high, *before))


def inside(ax: "Axes", which: Literal["x", "y"], values: Any) -> Any:
    """Return values, those beyond the ends of an axis at its ends; its limits need to be set before."""
    return np.clip(values, *sorted(getattr(ax, f"get_{which}lim")()))


def _apart(scale: Axis) -> tuple[float, float]:
    """Return both ends of a scale, or ends around them where they are one."""
    low, high = scale.ends
    if low < high:
        return low, high
    return (low / 2, low * 2) if isinstance(scale, LogAxis) else (low - 0.5, low + 0.5)


def _set_plain_ticks(axis: Any, whole: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    from tuneflow.plot.artists import PlainNumbers

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole))
    axis.set_major_formatter(PlainNumbers())


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


def _place_of_ones(low: float, high: float) -> float:
    """Return the error that a share of exactly 1 counts as: the least one that the scale is made for."""
    return float((1 - high) * ((1 - low) / (1 - high)) ** (ROOM / (1 + 2 * ROOM)))


def _by_error(share: Any, shift: float) -> Any:
    return -np.log10(np.maximum(1 - np.asarray(share, dtype=float) + shift, NEAREST))


def _share(place: Any, shift: float) -> Any:
    return 1 + shift - 10 ** -np.asarray(place, dtype=float)
