"""Plots of studies and of measurements by matplotlib, an extra: `pip install "tuneflow-torch[plot]"`.

Each function draws into the axes that it is given, or into those of a new figure, and returns them. That figure is
unknown to pyplot: a notebook shows it where the axes end a cell, and `ax.figure.savefig(path)` writes it to a file.
Colors suit the background and the style in use; no setting of matplotlib is changed.
"""

from tuneflow.plot.range_test_plot import range_test
from tuneflow.plot.spectrum_plot import spectrum

__all__ = ["range_test", "spectrum"]


def __dir__() -> list[str]:
    return __all__
