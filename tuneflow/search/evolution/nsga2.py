"""NSGA-II: evolution of a front, for several objectives."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.pareto import breaches, ranking
from tuneflow.search.evolution.mutation import changed, crossed, unseen
from tuneflow.search.repair import repaired
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.sobol import Sobol
from tuneflow.space.coordinates import Array, Coordinates, Places
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_whole


class NSGA2(Searcher):
    """Evolution of a whole front: recombines and mutates the trials on the best fronts.

    Parents are the best `population` of all trials so far, by front and within a front by distance from their
    neighbors. A child mixes two parents, each the better of two drawn, and changes about one parameter; where `where=`
    excludes it, one or two values more. Parents are selected anew whenever a trial ends, so no worker waits for a
    generation. The first `population` trials are a Sobol sequence. It needs some hundred trials; with one objective it
    is a genetic algorithm.

    Args:
        population: number of parents, at least 2.

    Raises:
        ValueError: `population` is below 2.

    Example:
        >>> import tuneflow as tn
        >>> def two(x):
        ...     return {"low": x**2, "high": (x - 2) ** 2}
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(two, space, trials=60, metric="low", searcher=NSGA2(population=10))
        >>> abs(best.config["x"]) < 0.5
        True

    Source: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002; one
    child at a time: Durillo et al., EMO 2009.
    """

    def __init__(self, population: int = 30) -> None:
        self.population = check_whole("NSGA2: population", population, 2)
        self._start = Sobol()
        self._parents = Latest(_Parents)

    def check(self, space: SearchSpace) -> None:
        self._start.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        if len(history.observed) < self.population:
            return self._start.suggest(space, history, rng)
        parents = self._parents(space, history, self.population)
        parents.catch_up()
        return space.from_unit(parents.child(rng))


class _Parents:
    """The numbers of the surviving trials, the best first.

    Attributes:
        taken: number of ended trials that were considered.
    """

    def __init__(self, space: SearchSpace, history: History, size: int) -> None:
        self.axes, self._history, self._size = Coordinates(space), history, size
        self.numbers: Places = np.empty(0, dtype=np.intp)
        self.taken = 0

    def catch_up(self) -> None:
        history, beyond = self._history, breaches(self._history)
        while len(history.observed) > self.taken:
            more = max(1, self._size - self.taken)  # all of the first ones at once, then one by one
            new = [trial.number for trial in history.observed[self.taken : self.taken + more]]
            self.taken += more
            rivals = np.append(self.numbers, new).astype(np.intp)
            order = ranking(history.comparable_costs[rivals], self._size, beyond[rivals])
            self.numbers = rivals[order][: self._size]

    def child(self, rng: np.random.Generator) -> Array:
        units = self._history.units
        one, other = (units[self.numbers[rng.integers(0, len(self.numbers), 2).min()]] for _ in range(2))
        child = crossed(self.axes, one, other, rng)
        able = self.axes.able(child)
        places = able[rng.random(len(able)) < 1 / max(len(able), 1)]
        child = changed(self.axes, child, places, rng)
        if self.axes.space.where:
            child = repaired(self.axes, child, rng, toward=one)
        return unseen(self.axes, child, units, rng)
