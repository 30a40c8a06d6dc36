"""What all plots share: axes that are given or new, colors for any background, nothing of matplotlib changed."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot, style
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import tuneflow as tn
from tuneflow.heuristics import HessianSpectrum
from tuneflow.plot.canvas import axes_of, ink_of, literal
from tuneflow.plot.labels import EndLabel, name_ends

pytestmark = pytest.mark.xdist_group("matplotlib")

BENT = HessianSpectrum((-0.5, 0.0, 4.0), (0.1, 0.8, 0.1), 10, True, 60.0)


def luminance(color):
    """Of a color, as WCAG defines it, with what is added to both of a ratio."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear)) + 0.05


def test_axes_that_are_given_are_drawn_into_and_returned():
    ax = Figure().subplots()
    assert tn.plot.spectrum(BENT, ax=ax) is ax


def test_new_axes_leave_pyplot_and_settings_as_they_were():
    before = dict(mpl.rcParams)
    ax = tn.plot.spectrum(BENT)
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert ax.figure.axes == [ax]


def test_a_notebook_shows_new_axes_as_a_picture_of_twice_the_pixels():
    picture, size = tn.plot.spectrum(BENT)._repr_png_()  # which is IPython's protocol
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") == 2 * size["width"] == 1280


@pytest.mark.parametrize("name", ["default", "dark_background", "ggplot"])
def test_colors_suit_the_background_of_every_style(name):
    with style.context(name):
        ink = ink_of(axes_of(None))
    for color in (ink.text, ink.quiet, ink.accent, ink.second, ink.bad):
        low, high = sorted([luminance(color), luminance(ink.ground)])
        assert high / low > 3  # of graphical objects; most have 4.5, as texts need


def test_colors_are_those_for_the_figure_below_axes_without_a_background():
    ax = Figure(facecolor="black").subplots()
    ax.set_facecolor("none")
    assert ink_of(ax).ground == (0.0, 0.0, 0.0)


def test_something_else_than_axes_is_refused():
    with pytest.raises(TypeError, match="ax needs to be one matplotlib Axes, got Figure"):
        tn.plot.spectrum(BENT, ax=Figure())


def test_without_matplotlib_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        tn.plot.spectrum(BENT)


def test_names_at_the_ends_of_lines_keep_their_order_and_do_not_overlap():
    ax = axes_of(None)
    ax.set_ylim(0, 1)
    name_ends(ax, [EndLabel(1.0, y, str(y), "black") for y in (0.5, 0.51, 0.1, 0.505)])
    offsets = {float(text.get_text()): text.xy[1] * 200 + text.xyann[1] for text in ax.texts}
    places = [offsets[y] for y in sorted(offsets)]
    assert min(np.diff(places)) > 8
    assert [text.xyann[1] for text in ax.texts if text.get_text() == "0.1"] == [0.0]


def test_names_with_signs_of_mathematics_are_text():
    ax = axes_of(None)
    name_ends(ax, [EndLabel(1.0, 0.5, r"$\nothing{$", "black")])
    ax.set_title(literal("a$b$"))
    ax.figure.draw_without_rendering()
    assert ax.get_title() == r"a\$b\$"
