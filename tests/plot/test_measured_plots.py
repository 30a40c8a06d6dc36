"""Plots of measurements: the curves, errors and marks that are drawn, in matplotlib's own units."""

import dataclasses
import math

import numpy as np
import pytest

import tuneflow as tn
from tuneflow.heuristics import HessianSpectrum, suggestions
from tuneflow.probing.race import Race

pytestmark = pytest.mark.xdist_group("matplotlib")

RATES = [10 ** (n / 10 - 5) for n in range(60)]
BOWL = [(math.log10(rate) + 2) ** 2 for rate in RATES]
RACE = Race((0.01, 0.1, 1.0), (1.0, 0.5, math.inf), 0.08, 20, 60.0, (0.1, 0.0, 0.0))
NAN = math.nan
PROBE = tn.Probe(0.05, 0.2, 1.0, True, RACE, "SGD", 0.0, 32, 10, 100, 2.3, 2.3, NAN, None, 0.4, 60.0, 1.0)
BENT = HessianSpectrum((-0.5, 0.0, 4.0), (0.1, 0.8, 0.1), 10, True, 60.0)


def marks(ax):
    """The texts of marked values by their places."""
    return {text.get_text(): text.xy[0] for text in ax.texts}


def test_range_test_draws_the_curve_and_the_rates_that_it_suggests():
    curve = suggestions(RATES, BOWL, beta=0.0)
    ax = tn.plot.range_test(curve)
    assert ax.lines[0].get_xydata() == pytest.approx(np.column_stack([curve.rates, curve.mean]))
    assert ax.get_xscale() == "log"
    assert marks(ax)["minimum / 10 0.001"] == pytest.approx(1e-3)
    assert ax.collections == [] or not len(ax.collections)


def test_range_test_of_several_seeds_has_one_standard_deviation_as_its_band():
    ax = tn.plot.range_test(suggestions(RATES, BOWL, [loss + 2 for loss in BOWL], beta=0.0))
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(min(BOWL) + 1 - math.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("measured", [RACE, PROBE], ids=["race", "probe"])
def test_race_draws_its_racers_with_errors_and_those_that_diverged_as_crosses(measured):
    ax = tn.plot.range_test(measured)
    losses, crosses = ax.lines[0], next(line for line in ax.lines if line.get_label() == "diverged")
    assert losses.get_xydata().tolist() == [[0.01, 1.0], [0.1, 0.5]]
    assert crosses.get_xdata().tolist() == [1.0]
    assert [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()] == [[0.9, 1.1], [0.5, 0.5]]
    assert marks(ax)["in the race 0.08"] == 0.08


def test_probe_marks_the_rule_and_the_rate_to_start_with():
    ax = tn.plot.range_test(PROBE)
    assert marks(ax) == {"to start with 0.05": 0.05, "in the race 0.08": 0.08, "by the rule 0.2": 0.2}
    assert ax.get_xlabel() == "learning rate of SGD"


def test_spectrum_draws_each_value_with_its_share_and_marks_the_largest():
    ax = tn.plot.spectrum(BENT)
    assert ax.lines[0].get_xydata().tolist() == [[-0.5, 0.1], [0.0, 0.8], [4.0, 0.1]]
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")
    assert marks(ax) == {"4: rates above 0.5 diverge": 4.0}


@pytest.mark.parametrize("value", [0.0, -2.0], ids=["flat", "bent down"])
def test_spectrum_of_a_loss_without_an_upward_bend_has_no_mark(value):
    ax = tn.plot.spectrum(HessianSpectrum((value,), (1.0,), 3, True, 1.0))
    assert (marks(ax), ax.lines[0].get_xydata().tolist()) == ({}, [[value, 1.0]])
    ax.figure.draw_without_rendering()


DIVERGED = dataclasses.replace(RACE, losses=(math.inf,) * 3)


@pytest.mark.parametrize(
    ("draw", "measured", "message"),
    [
        (tn.plot.range_test, dataclasses.replace(PROBE, race=None), "the probe had no race; a larger share="),
        (tn.plot.range_test, DIVERGED, "all 3 racers diverged"),
        (tn.plot.range_test, BENT, "a probe or its race, got HessianSpectrum"),
        (tn.plot.spectrum, RACE, "needs the result of tuneflow.heuristics.spectrum, got Race"),
    ],
    ids=["no race", "all diverged", "no curve", "no spectrum"],
)
def test_what_has_nothing_to_draw_is_refused(draw, measured, message):
    with pytest.raises((ValueError, TypeError), match=message):
        draw(measured)
