"""Random search."""

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.search.searcher import Searcher
from tuneflow.space.search_space import Config, SearchSpace


class Random(Searcher):
    """Independent random draws: from the priors, uniform in the unit cube where there are none.

    Beats a grid of the same size where few of the parameters matter, since every trial gives each of them a new value.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(lr=tn.Float(1e-4, 1.0, log=True))
        >>> tn.minimize(lambda lr: abs(lr - 0.01), space, trials=20, searcher=Random()).number < 20
        True

    Source: Bergstra, Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13, 2012.
    """

    by_number = True

    @override
    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        return space.sample(rng)
