"""Regularized evolution: a child of a good one among the youngest."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.pareto import breaches, ranking
from tuneflow.search.evolution.mutation import unseen
from tuneflow.search.searcher import Searcher
from tuneflow.search.sobol import Sobol
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_whole, is_whole


class Evolution(Searcher):
    """Changes one parameter of the best of a few trials, drawn from the last ones that ended.

    For spaces of labels and whole numbers, as of architectures, where neighbors are alike and many workers ask at
    once. Trials die of age, not of a bad score: what was good by luck only has to be good again in its children. The
    first trials are a Sobol sequence. A number moves by a step of random size, a label becomes any other, and what
    a label makes active is drawn from the prior. A configuration is not proposed twice while there are others near.
    With several objectives the best is of the first front, and the least crowded there.

    Args:
        population: how many trials are alive.
        sample: how many of them compete to be the parent.

    Raises:
        ValueError: `population` is below 2, or `sample` not from 1 to `population`.

    Source: Real, Aggarwal, Huang, Le, Regularized Evolution for Image Classifier Architecture Search, AAAI 2019.
    """

    def __init__(self, population: int = 30, sample: int = 10) -> None:
        check_whole("Evolution: population", population, 2)
        if not is_whole(sample) or sample > population:
            raise ValueError(f"Evolution: sample needs to be from 1 to population={population}, got {sample!r}.")
        self.population, self.sample = population, sample
        self._start = Sobol()
        self._axes: Coordinates | None = None

    def check(self, space: SearchSpace) -> None:
        self._start.check(space)

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        if history.ended < self.population:
            return self._start.suggest(space, history, rng)
        axes = self._axes
        if axes is None or axes.space is not space:
            axes = self._axes = Coordinates(space)
        alive = [trial.number for trial in history.finished[-self.population :]]
        rivals = rng.choice(alive, self.sample, replace=False)
        parent = history.units[rivals[ranking(history.costs[rivals], 1, breaches(history)[rivals])[0]]]
        return axes.configured(unseen(axes, parent, history.units, rng))
