"""Untried configurations: drawn at random where many are left, searched for in a random order where few are."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from tuneflow.space.search_space import COUNTABLE, TRIES, Config, SearchSpace

DRAWS = 64  # random draws before the configurations are looked at one by one


def untried(space: SearchSpace, tried: Callable[[Config], bool], rng: np.random.Generator) -> Config | None:
    """Return a configuration that was not tried, from the priors where many are left; None where none is left.

    Of a finite part of more than 200,000 configurations so many are looked at.

    Args:
        space: the space.
        tried: returns True for a configuration that was tried.
        rng: the only source of randomness.
    """
    for candidates in (_drawn, _listed, _uncounted):
        for config in candidates(space, rng):
            if not tried(config):
                return config
    return None


def _drawn(space: SearchSpace, rng: np.random.Generator) -> Iterator[Config]:
    few = space.size <= COUNTABLE and not space.informed
    for _ in range(1 if few else DRAWS):
        yield space.sample(rng)


def _listed(space: SearchSpace, rng: np.random.Generator) -> Iterator[Config]:
    points = space.finite_part
    for place in _shuffled(points.total, rng):
        if space.allows(config := points[place]):
            yield config


def _shuffled(total: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield numbers below `total`, each once, in a random order; COUNTABLE of them at most."""
    start, stride = (int.from_bytes(rng.bytes(16), "little") for _ in range(2))
    while total and math.gcd(stride, total) > 1:
        stride += 1
    for step in range(min(total, COUNTABLE)):
        yield (start + step * stride) % total


def _uncounted(space: SearchSpace, rng: np.random.Generator) -> Iterator[Config]:
    """Draw configurations with a parameter that has too many values to list."""
    for axis in space.coordinates:
        for _ in range(TRIES if axis.whole.levels > COUNTABLE and not axis.digit else 0):
            unit = space.quantile(rng.random(len(space)))
            for place, label in axis.needs:
                unit[place] = space.coordinates[place].parameter.to_unit(label)
            if space.allows(config := space.from_unit(unit)):
                yield config
