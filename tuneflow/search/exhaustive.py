"""Exhaustive search: every configuration of a finite space, once."""

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.gp.features import FeatureMap
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
        configs, keys, layout = self._shuffled(space, history.seed)
        tried = set(layout.keys(np.asarray(history.units)))
        return next((config for config, key in zip(configs, keys, strict=True) if key not in tried), None)


def _shuffled(space: SearchSpace, seed: int) -> tuple[list[Config], list[bytes], FeatureMap]:
    points, layout = everything(space), FeatureMap(space)
    configs = [points[int(place)] for place in stream(seed, "whole").permutation(points.total)]
    units = np.array([space.to_unit(config) for config in configs]).reshape(len(configs), len(space))
    return configs, layout.keys(units), layout


def everything(space: SearchSpace) -> GridPoints:
    """Return every configuration of a finite space that its `where=` allows."""
    return space.grid({name: int(space.coordinates[at].whole.levels) for name, at in space.parameters.items()})
