"""Mutation and crossover: change a configuration a little, or mix two."""

import numpy as np

from tuneflow.space.coordinates import Array, Coordinates, Places

WIDTHS = 0.01, 1.0  # standard deviations of a number's step: one between them, even in the logarithm
TRIES = 20  # changes on top of each other, until there is a configuration that was not proposed before


def changed(axes: Coordinates, unit: Array, places: Places, rng: np.random.Generator) -> Array:
    """Return `unit`, shape (d,), with new values at `places`; coordinates that become active are drawn from the prior.

    A label becomes any other. A number moves by a normal step, at least to the next value.
    """
    child = np.where(np.isnan(unit), axes.space.quantile(rng.random(len(unit))), unit)
    low, high = (ends[0] for ends in axes.cells(child[None]))
    for place in places:
        if axes.labels[place]:
            levels = int(axes.levels[place])
            child[place] = (child[place] + rng.integers(1, levels) / levels) % 1.0
            continue
        step = rng.normal() * WIDTHS[0] * (WIDTHS[1] / WIDTHS[0]) ** rng.random()
        step += np.sign(step) * (high[place] - low[place])
        child[place] = (child[place] + step).clip(0.0, 1.0)
        if low[place] <= child[place] <= high[place]:  # at an end: the other way
            child[place] = ((low if step > 0 else high)[place] - step).clip(0.0, 1.0)
    return np.asarray(axes.settled(child[None])[0])


def crossed(axes: Coordinates, one: Array, other: Array, rng: np.random.Generator) -> Array:
    """Return a child of two points, shape (d,), with each value from either of them.

    A coordinate that is active in one parent only comes from that one; one that is active in neither, from the prior.
    """
    one, other = np.where(np.isnan(one), other, one), np.where(np.isnan(other), one, other)
    child = np.where(rng.random(len(one)) < 0.5, other, one)
    child = np.where(np.isnan(child), axes.space.quantile(rng.random(len(one))), child)
    return np.asarray(axes.settled(child[None])[0])


def unseen(axes: Coordinates, unit: Array, units: Array, rng: np.random.Generator) -> Array:
    """Mutate `unit`, shape (d,), until it is none of `units`, shape (n, d), at most 20 times."""
    for _ in range(TRIES):
        if not axes.among(units, unit):
            break
        able = np.flatnonzero(~np.isnan(unit) & (axes.levels > 1))
        unit = changed(axes, unit, rng.permutation(able)[:1], rng)
    return unit
