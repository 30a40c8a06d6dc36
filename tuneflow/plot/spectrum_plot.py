"""The plot of a Hessian's spectrum: the share of its eigenvalues about each value."""

from typing import TYPE_CHECKING

import numpy as np

from tuneflow.heuristics.spectrum import HessianSpectrum
from tuneflow.markup.scales import LogAxis
from tuneflow.markup.ticks import log_label
from tuneflow.plot.canvas import axes_of, ink_of
from tuneflow.plot.labels import mark_value
from tuneflow.plot.scaling import set_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST = 1e-3  # of the values' shares; those below it are drawn at the lower edge
LINEAR = 1e-3  # of the largest size of an eigenvalue: values below it are on a linear axis


def spectrum(measured: HessianSpectrum, ax: "Axes | None" = None) -> "Axes":
    """Draw the eigenvalues of a loss's Hessian and the share of all that each stands for.

    Both axes are logarithmic, the eigenvalues' one linear around 0. The largest eigenvalue is marked, with the rate
    above which plain gradient descent diverges along it.

    Args:
        measured: what `tuneflow.heuristics.spectrum` returns.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: `measured` is something else.
        ImportError: matplotlib is not installed.
    """
    if not isinstance(measured, HessianSpectrum):
        raise TypeError(
            "tn.plot.spectrum needs the result of tuneflow.heuristics.spectrum, got"
            f" {type(measured).__name__}; a curvature has the largest eigenvalue only."
        )
    ax = axes_of(ax)
    ink = ink_of(ax)
    values, weights = np.array(measured.values), np.array(measured.weights)
    floor = max(float(weights[weights > 0].min()), LEAST / measured.parameters)
    shown = np.maximum(weights, floor)
    ax.set_xscale("symlog", linthresh=LINEAR * float(np.abs(values).max()) or 1.0)
    ax.xaxis.set_major_formatter(lambda value, _: log_label(value))
    set_scale(ax, "y", LogAxis(floor / 3, 1.0))
    ax.vlines(values, floor / 3, shown, color=ink.faint, linewidth=1)
    ax.plot(values, shown, "o", color=ink.accent, markersize=3.5)
    if values[-1] > 0:
        mark_value(ax, values[-1], f"{values[-1]:.3g}: rates above {2 / values[-1]:.2g} diverge", ink.quiet)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel(f"share of {measured.parameters:,} eigenvalues")
    return ax
