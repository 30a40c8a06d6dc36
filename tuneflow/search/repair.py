"""Repair: the way from a point of the unit cube to one near it that the space's `where=` allows."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tuneflow.space.coordinates import Array, Coordinates, Places
from tuneflow.space.order_codes import neighbors, orders_at, units_of

NEAR = 1_000  # points with one other value that are looked at, the nearest first,
PAIRS = 300  # and so many with two, at random
MANY = 1_000  # of the values of a number so many are looked at, spread over its range
LINE = 40  # points on the line to an allowed one
CLOSE = np.geomspace(1 / LINE, 1e-3, 10)  # more of them near its end: distances from it, in lengths of the line


def repaired(
    axes: Coordinates,
    unit: Array,
    rng: np.random.Generator,
    held: Sequence[int] | Places = (),
    toward: Array | None = None,
) -> Array:
    """Return an allowed point, shape (d,), settled: `unit` itself, or one near it.

    Constraints tie values together (equal ones, a fixed sum, each label once), so it looks for the nearest point with
    one other value, then for one with two, then along the line to a point that is allowed.

    Args:
        axes: the coordinates of the space.
        unit: shape (d,); NaN counts as drawn from the prior.
        rng: draws among points that are as near, and two other values.
        held: first coordinates of parameters that keep their values, except on that line.
        toward: an allowed point; a draw from the space where there is none.

    Raises:
        ValueError: nothing that is allowed was drawn from the space.
    """
    full = np.where(np.isnan(unit), axes.space.quantile(rng.random(len(unit))), unit)
    free = [int(place) for place in np.flatnonzero(axes.heads & (axes.levels > 1)) if place not in held]
    ways: list[Callable[[], Array]] = [
        lambda: full[None],
        lambda: _one_changed(axes, full, free, rng),
        lambda: _two_changed(axes, full, free, rng),
        lambda: _line(full, axes.space.to_unit(axes.space.sample(rng)) if toward is None else toward),
    ]
    found = next((point for way in ways for point in allowed(axes, way())), None)
    return axes.space.to_unit(axes.space.sample(rng)) if found is None else found


def allowed(axes: Coordinates, points: Array) -> Iterator[Array]:
    """Yield those of the points, shape (m, d), that `where=` allows, settled, in their order."""
    space = axes.space
    return (point for point in axes.settled(points) if space.allows(space.from_unit(point)))


def _one_changed(axes: Coordinates, unit: Array, free: Sequence[int], rng: np.random.Generator) -> Array:
    """Return points that differ from `unit` in one of the `free` parameters, the nearest first, shape (m, d)."""
    rows = [_others(axes, unit, place, rng) for place in free]
    if not rows:
        return np.empty((0, len(unit)))
    points = np.concatenate(rows)
    steps = np.where(axes.labels, points != unit, np.abs(points - unit))
    return points[np.lexsort((rng.random(len(points)), steps.max(1)))[:NEAR]]


def _others(axes: Coordinates, unit: Array, place: int, rng: np.random.Generator) -> Array:
    """Return points with another value of one parameter, shape (m, d)."""
    if place in axes.orders:
        own = axes.orders[place]
        order = orders_at(unit[None, own])[0]
        near = order[rng.permutation(neighbors(len(order)))[:MANY]]
        points = np.repeat(unit[None], len(near), axis=0)
        points[:, own] = units_of(near)
        return points
    values = axes.values(place) if axes.levels[place] <= MANY else (np.arange(MANY) + rng.random(MANY)) / MANY
    points = np.repeat(unit[None], len(values), axis=0)
    points[:, place] = values
    return points


def _two_changed(axes: Coordinates, unit: Array, free: Sequence[int], rng: np.random.Generator) -> Array:
    """Return points with random values of two of the `free` parameters, shape (m, d)."""
    if len(free) < 2:
        return np.empty((0, len(unit)))
    points = np.repeat(unit[None], PAIRS, axis=0)
    for point in points:
        for place in rng.choice(free, 2, replace=False):
            own = axes.orders.get(int(place), slice(place, place + 1))
            point[own] = rng.random(own.stop - own.start)
    return points


def _line(start: Array, end: Array) -> Array:
    """Return points from `start` to just before `end`, which may be a trial's own, shape (m, d)."""
    shares = np.concatenate([np.linspace(0.0, 1.0, LINE)[1:-1], 1 - CLOSE])
    return np.asarray(start + shares[:, None] * (np.where(np.isnan(end), start, end) - start))
