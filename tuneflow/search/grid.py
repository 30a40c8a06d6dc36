"""Grid search."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.search.searcher import Searcher
from tuneflow.seeds import stream
from tuneflow.space.grid_points import GridPoints
from tuneflow.space.search_space import Config, Points, SearchSpace

MOST = 1_000_000


class Grid(Searcher):
    """Every combination of evenly spread values, each once; then the study ends.

    Args:
        points: how many values of each Float and Int (a Choice has all of its own), or a dict from
            names to a number or a list of values; a name that is left out has 5.
        shuffle: visit the points in a random order, fixed by the study's seed, so that a study which
            ends early has not seen one corner only.

    Raises:
        ValueError: when the study is made: a name that is not in the space, a value out of range, or a
            grid of more than a million points.

    Example:
        >>> grid = Grid({"lr": [0.01, 0.1], "momentum": 3})
    """

    ends = True

    def __init__(self, points: Points = 5, shuffle: bool = False) -> None:
        self.points, self.shuffle = points, shuffle
        self._made: tuple[SearchSpace, int, GridPoints, np.ndarray | None] | None = None

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        if self._made is None or self._made[0] is not space or self._made[1] != history.seed:
            points = space.grid(self.points)
            order = stream(history.seed, "grid").permutation(points.total) if self.shuffle else None
            self._made = (space, history.seed, points, order)
        _, _, points, order = self._made
        if history.number >= points.total:
            return None
        return points[history.number if order is None else int(order[history.number])]

    def check(self, space: SearchSpace) -> None:
        points = space.grid(self.points)
        if points.total > MOST:
            sides = ", ".join(f"{axis.name} {len(v)}" for axis, v in zip(space.coordinates, points.values, strict=True))
            raise ValueError(
                f"Grid: this grid has {points.total:,} points ({sides}), more than a million would ever be"
                f" trained; pass fewer points=, or use tn.Sobol() or tn.Random()."
            )
