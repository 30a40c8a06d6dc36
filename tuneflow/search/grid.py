"""Grid search."""

from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import stream
from tuneflow.space.grid_points import GridPoints
from tuneflow.space.search_space import Config, Points, SearchSpace

MOST = 1_000_000


class Grid(Searcher):
    """Every combination of evenly spread values, each once; then the study ends.

    A study whose space grew goes on with the points of the new grid that were not tried before.

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
        self.points, self.shuffle = points, shuffle
        self._ordered = Latest(self._order)

    @override
    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config | None:
        points, order = self._ordered(space, history.seed, history)
        place = history.number - history.grown
        return points[int(order[place])] if -len(order) <= place < len(order) else None

    def _order(self, space: SearchSpace, seed: int, history: History) -> tuple[GridPoints, Sequence[int] | np.ndarray]:
        """Return the points and their order; after the space grew, without those that were tried before."""
        points = space.grid(self.points)
        order = stream(seed, "grid").permutation(points.total) if self.shuffle else range(points.total)
        if not history.grown:
            return points, order
        tried = {unit.tobytes() for unit in history.units[: history.grown]}
        return points, [place for place in order if space.to_unit(points[int(place)]).tobytes() not in tried]

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
