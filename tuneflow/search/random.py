"""Random search."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.search.searcher import Searcher
from tuneflow.space.search_space import Config, SearchSpace


class Random(Searcher):
    """Independent uniform draws from the unit cube.

    Beats a grid of the same size where few of the parameters matter, since every trial gives each of
    them a new value.

    Source: Bergstra, Bengio, JMLR 13, 2012.
    """

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        return space.sample(rng)
