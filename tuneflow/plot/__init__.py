"""Plots of studies and of measurements by matplotlib, which is an extra.

Each function draws into the axes that it is given, or into those of a new figure, and returns them. That figure is
unknown to pyplot: a notebook shows it where the axes end a cell, and `ax.figure.savefig(path)` writes it to a file.
Colors suit the background and the style in use; no setting of matplotlib is changed.
"""

from tuneflow.plot.contour_plot import contour
from tuneflow.plot.curves_plot import curves
from tuneflow.plot.ecdf_plot import ecdf
from tuneflow.plot.front_plot import front
from tuneflow.plot.history_plot import history
from tuneflow.plot.importance_plot import importance
from tuneflow.plot.parallel_plot import parallel
from tuneflow.plot.range_test_plot import range_test
from tuneflow.plot.slice_plot import slice
from tuneflow.plot.spectrum_plot import spectrum
from tuneflow.plot.timeline_plot import timeline

__all__ = [
    "contour",
    "curves",
    "ecdf",
    "front",
    "history",
    "importance",
    "parallel",
    "range_test",
    "slice",
    "spectrum",
    "timeline",
]


def __dir__() -> list[str]:
    return __all__
