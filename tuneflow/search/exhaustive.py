"""Exhaustive search: every configuration of a finite space, once."""

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import stream
from tuneflow.space.grid_points import GridPoints
from tuneflow.space.search_space import Config, SearchSpace


class Exhaustive(Searcher):
    """Every untried configuration, in a seeded random order."""

    ends = True

    def __init__(self) -> None:
        self._shuffled = Latest(_shuffled)

    @override
    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        return next((config for config in self._shuffled(space, history.seed) if history.first(config) is None), None)


def _shuffled(space: SearchSpace, seed: int) -> list[Config]:
    points = everything(space)
    return [points[int(place)] for place in stream(seed, "whole").permutation(points.total)]


def everything(space: SearchSpace) -> GridPoints:
    """Return every configuration of a finite space that its `where=` allows."""
    return space.grid({name: int(space.coordinates[at].whole.levels) for name, at in space.parameters.items()})
