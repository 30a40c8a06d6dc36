"""Rare configurations: those of a space whose `where=` is hardly ever met by a random draw."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tuneflow.space.nodes import Coordinate

MANY = 1_000  # values of a parameter, up to which all of them are tried
LINES = 100  # random points around which they are


def along_lines(
    coordinates: Sequence[Coordinate], draw: Callable[[], list[float]], rng: np.random.Generator
) -> Iterator[list[float]]:
    """Yield points that have every value of one discrete parameter, and the others as drawn.

    So a value that is tied to others (equal to one of them, or the rest of a sum) is met in one pass over it.

    Args:
        coordinates: of the space.
        draw: returns a random point of the unit cube.
        rng: chooses the parameters.
    """
    able = [at for at, axis in enumerate(coordinates) if not axis.digit and 1 < axis.whole.levels <= MANY]
    for _ in range(LINES if able else 0):
        point, at = draw(), int(rng.choice(able))
        whole = coordinates[at].whole
        values = whole.grid(int(whole.levels))
        for place in rng.permutation(len(values)):
            yield [*point[:at], *whole.to_units(values[place]), *point[at + whole.width :]]


def one_of(configs: Sequence[Any], density: Callable[[Any], float] | None, rng: np.random.Generator) -> Any:
    """Return one of some configurations, each as likely as its density, or as any other where there is no density."""
    places = rng.permutation(len(configs))[:MANY]
    if density is None:
        return configs[int(places[0])]
    weights = np.array([density(configs[int(place)]) for place in places])
    likely = weights / weights.sum() if weights.sum() > 0 else None
    return configs[int(rng.choice(places, p=likely))]


def copied(value: Any) -> Any:
    """Return a copy of a configuration, of nested dicts and lists."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value
