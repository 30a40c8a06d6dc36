"""Regularized evolution: a child of a good one among the youngest."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.pareto import breaches, ranking
from tuneflow.search.evolution.mutation import unseen
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.search.sobol import Sobol
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_whole, is_whole


class Evolution(Searcher):
    """Changes one parameter of a good trial among the last that ended.

    For spaces of labels and whole numbers, such as architectures, where neighbors are alike, and for many workers. The
    parent is the best of `sample` trials drawn from the last `population`: trials leave by age, not by score, so a
    lucky score has to be matched by the children. A number moves by a step of random size, a label becomes any other,
    in an order two items swap places or one moves, and parameters that a label makes active are drawn from the prior.
    Where `where=` excludes a child, one or two other values change with it. A configuration that was tried is not
    proposed while others are near. The first `population` trials are a Sobol sequence. With several objectives the
    parent is on the first front, the least crowded there.

    Args:
        population: number of trials that may be parents, at least 2.
        sample: number of them that compete to be the parent, from 1 to `population`.

    Raises:
        ValueError: `population` is below 2, or `sample` is not from 1 to `population`.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(act=tn.Choice(["relu", "tanh", "gelu"]), layers=tn.Int(1, 8))
        >>> best = tn.minimize(lambda act, layers: abs(layers - 3) + (act != "gelu"), space, trials=24,
        ...                    searcher=Evolution(population=8, sample=4))
        >>> best.config
        {'act': 'gelu', 'layers': 3}

    Source: Real, Aggarwal, Huang, Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019.
    """

    def __init__(self, population: int = 30, sample: int = 10) -> None:
        population = check_whole("Evolution: population", population, 2)
        if not is_whole(sample) or sample > population:
            raise ValueError(f"Evolution: sample needs to be from 1 to population={population}, got {sample!r}.")
        self.population, self.sample = population, int(sample)
        self._start = Sobol()
        self._axes = Latest(Coordinates)

    def check(self, space: SearchSpace) -> None:
        self._start.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        if len(history.observed) < self.population:
            return self._start.suggest(space, history, rng)
        axes = self._axes(space)
        alive = [trial.number for trial in history.observed[-self.population :]]
        rivals = rng.choice(alive, self.sample, replace=False)
        parent = history.units[rivals[ranking(history.comparable_costs[rivals], 1, breaches(history)[rivals])[0]]]
        return space.from_unit(unseen(axes, parent, history.units, rng))
