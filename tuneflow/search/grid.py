"""Grid search."""

from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import stream
from tuneflow.space.grid_points import GridPoints
from tuneflow.space.search_space import Config, Points, SearchSpace
from tuneflow.validate import check_flag

MOST = 1_000_000


class Grid(Searcher):
    """Every combination of evenly spread values, each once; then the study ends.

    A point that was tried already is left out: one from the queue, or of the study before its space grew.

    Args:
        points: number of values of each Float, Int and Permutation (a Choice has all of its options), or a dict
            from names to a number or a list of values; a name that is left out has 5.
        shuffle: visit the points in a random order, fixed by the study's seed, so that a study which
            ends early has not seen one corner only.

    Raises:
        ValueError: when the study is made: a name is not in the space, a value is out of range, or `where=`
            would have to be evaluated on more than a million points.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0), y=tn.Int(1, 9))
        >>> best = tn.minimize(lambda x, y: x + y, space, trials=6, searcher=Grid({"x": [0.25, 0.75], "y": 3}))
        >>> best.config
        {'x': 0.25, 'y': 1}
    """

    ends = True

    def __init__(self, points: Points = 5, shuffle: bool = False) -> None:
        self.points, self.shuffle = points, check_flag("Grid: shuffle", shuffle)
        self._walk = Latest(self._start)

    @override
    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        return self._walk(space, history, history.seed).next(min(len(history.unknown), history.number))

    def _start(self, space: SearchSpace, history: History, seed: int) -> "_Walk":
        points = space.grid(self.points)
        order = stream(seed, "grid").permutation(points.total) if self.shuffle else range(points.total)
        return _Walk(points, order, history)

    def check(self, space: SearchSpace) -> None:
        points = space.grid(self.points)
        if not points.total:
            raise ValueError("Grid: where= allows none of this grid's points; pass more or other points=.")
        if points.total > MOST:
            sides = ", ".join(f"{name} {len(points.values[at])}" for name, at in space.parameters.items())
            raise ValueError(
                f"Grid: this grid has {points.total:,} points ({sides}), more than a million would ever be"
                f" trained; pass fewer points=, or use tn.Sobol() or tn.Random()."
            )


class _Walk:
    """The points of a grid in their order, without those that were tried, whoever proposed them."""

    def __init__(self, points: GridPoints, order: Sequence[int] | np.ndarray, history: History) -> None:
        self._points, self._order, self._history = points, order, history
        self._place = 0  # all points before it were tried

    def next(self, ahead: int) -> Config | None:
        """Return the next untried point after `ahead` others, which other processes will take; None beyond the end."""
        untried = (place for place in range(self._place, self._points.total) if not self._tried(place))
        self._place = next(untried, self._points.total)
        place = next(islice(chain([self._place], untried), ahead, None), self._points.total)
        return self._at(place) if place < self._points.total else None

    def _tried(self, place: int) -> bool:
        return bool(len(self._history.trials)) and self._history.first(self._at(place)) is not None

    def _at(self, place: int) -> Config:
        return self._points[int(self._order[place])]
