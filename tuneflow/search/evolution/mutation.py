"""Mutation and crossover: change a configuration a little, or mix two."""

import numpy as np

from tuneflow.search.repair import repaired
from tuneflow.space.coordinates import Array, Coordinates, Places
from tuneflow.space.order_codes import orders_at, reordered, units_of

WIDTHS = 0.01, 1.0  # standard deviations of a number's step: one between them, even in the logarithm
TRIES = 20  # changes on top of each other, until there is a configuration that was not proposed before


def changed(axes: Coordinates, unit: Array, places: Places, rng: np.random.Generator) -> Array:
    """Return `unit`, shape (d,), with new values at `places`; coordinates that become active are drawn from the prior.

    A label becomes any other. A number moves by a normal step, at least to the next value. In an order two items swap
    places, or one moves.

    Args:
        axes: the coordinates of the space.
        unit: the point.
        places: the first coordinates of the parameters to change.
        rng: draws the new values.
    """
    child = np.where(np.isnan(unit), axes.space.quantile(rng.random(len(unit))), unit)
    low, high = (ends[0] for ends in axes.cells(child[None]))
    for place in places:
        if place in axes.orders:
            own = axes.orders[place]
            child[own] = units_of(reordered(orders_at(child[None, own]), rng))[0]
            continue
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
    """Return a child of two points, shape (d,), with the value of each parameter from either of them.

    A coordinate that is active in one parent only comes from that one; one that is active in neither, from the prior.
    """
    one, other = np.where(np.isnan(one), other, one), np.where(np.isnan(other), one, other)
    swapped = rng.random(len(one)) < 0.5
    for first, own in axes.orders.items():
        swapped[own] = swapped[first]
    child = np.where(swapped, other, one)
    child = np.where(np.isnan(child), axes.space.quantile(rng.random(len(one))), child)
    return np.asarray(axes.settled(child[None])[0])


def unseen(axes: Coordinates, unit: Array, units: Array, rng: np.random.Generator) -> Array:
    """Mutate an allowed point, shape (d,), until it is none of `units`, shape (n, d), at most 20 times."""
    for _ in range(TRIES):
        if not axes.among(units, unit):
            break
        places = rng.permutation(axes.able(unit))[:1]
        child = changed(axes, unit, places, rng)
        unit = repaired(axes, child, rng, held=places, toward=unit) if axes.space.where else child
    return unit
