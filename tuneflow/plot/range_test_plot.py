"""The plot of a range test, or of a race of short trainings: the loss against the learning rate."""

import math
from typing import TYPE_CHECKING

import numpy as np

from tuneflow.heuristics.range_test import Suggestions
from tuneflow.markup.scales import LogAxis, log_axis_of
from tuneflow.plot.canvas import axes_of, ink_of
from tuneflow.plot.labels import mark_value
from tuneflow.plot.scaling import set_scale
from tuneflow.probing.probe import Probe
from tuneflow.probing.race import Race

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def range_test(measured: Suggestions | Race | Probe, ax: "Axes | None" = None) -> "Axes":
    """Draw the loss against the learning rate, on a logarithmic axis, with the rates that follow from it marked.

    Args:
        measured: what `tuneflow.heuristics.suggestions` returns, a curve with one standard deviation over the seeds as
            a band; or a probe of `tn.probe`, or its race: the loss of each racer, with standard errors of the
            differences from the lowest. Racers that diverged are crosses at the upper edge.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: `measured` is none of these.
        ValueError: the probe had no race, or all of its racers diverged.
        ImportError: matplotlib is not installed.
    """
    if isinstance(measured, Suggestions):
        return _draw_curve(measured, ax)
    race = measured.race if isinstance(measured, Probe) else measured
    if race is None:
        raise ValueError("tn.plot.range_test: the probe had no race; a larger share= of the steps allows one.")
    if not isinstance(race, Race):
        raise TypeError(
            "tn.plot.range_test needs the result of tuneflow.heuristics.suggestions, a probe or its race, got"
            f" {type(measured).__name__}; tn.probe(model, trainer, config) gives a probe."
        )
    marks = {"in the race": race.best}
    if isinstance(measured, Probe):
        marks |= {"by the rule": measured.estimate or math.nan, "to start with": measured.rate}
    return _draw_race(race, marks, f" of {measured.optimizer}" if isinstance(measured, Probe) else "", ax)


def _draw_curve(curve: Suggestions, ax: "Axes | None") -> "Axes":
    ax = axes_of(ax)
    ink = ink_of(ax)
    rates, mean, spread = (np.array(numbers) for numbers in (curve.rates, curve.mean, curve.spread))
    set_scale(ax, "x", LogAxis(curve.rates[0], curve.rates[-1]))
    ax.plot(rates, mean, color=ink.accent, label="smoothed loss")
    if spread.any():
        ax.fill_between(rates, mean - spread, mean + spread, color=ink.accent, alpha=0.15, linewidth=0)
    marks = {"steepest": curve.steepest, "minimum / 10": curve.minimum, "valley": curve.valley}
    return _finish(ax, marks, "learning rate", "loss, smoothed")


def _draw_race(race: Race, marks: dict[str, float], of: str, ax: "Axes | None") -> "Axes":
    rates, losses, errors = (np.array(numbers) for numbers in (race.rates, race.losses, race.errors))
    finite = np.isfinite(losses)
    if not finite.any():
        raise ValueError(f"tn.plot.range_test: all {len(rates)} racers diverged; there is no loss to draw.")
    ax = axes_of(ax)
    ink = ink_of(ax)
    set_scale(ax, "x", log_axis_of(race.rates))
    ax.errorbar(rates[finite], losses[finite], errors[finite], color=ink.accent, marker="o", markersize=4, capsize=2)
    above = np.full((~finite).sum(), 0.97)
    ax.plot(rates[~finite], above, "x", color=ink.bad, transform=ax.get_xaxis_transform(), label="diverged")
    return _finish(ax, marks, f"learning rate{of}", f"validation loss after {race.steps:,} steps")


def _finish(ax: "Axes", marks: dict[str, float], across: str, up: str) -> "Axes":
    """Mark the rates, one below another where they are close, and write the titles."""
    ink = ink_of(ax)
    at = {name: rate for name, rate in marks.items() if math.isfinite(rate) and rate > 0}
    for place, (name, rate) in enumerate(sorted(at.items(), key=lambda mark: mark[1])):
        mark_value(ax, rate, f"{name} {rate:.2g}", ink.quiet, place)
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    return ax
