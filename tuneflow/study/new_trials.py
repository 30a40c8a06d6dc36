"""New trials: a searcher's configurations, entered in the store so that none comes twice by chance."""

import numpy as np

from tuneflow.errors import exceptions_only
from tuneflow.history.trial import Trial
from tuneflow.runtime.environment import USUAL
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import stream
from tuneflow.space.search_space import Config
from tuneflow.study.ledger import Ledger


def new_trial(searcher: Searcher, ledger: Ledger, number: int, paired: bool) -> Trial | None:
    """Return the entered trial of a claimed number; None where the searcher has nothing left to try.

    A configuration that was tried before comes again only where it gets a seed of its own: under a searcher that
    repeats on purpose, and in a study that is not paired. Then its trial has the number of the first one.

    Args:
        searcher: proposes the configuration.
        ledger: the study's.
        number: the claimed number.
        paired: True if trials share their seeds.
    """
    history = ledger.history
    refused: list[Config] = []  # by the store, as another process was faster
    while True:
        rng = stream(history.seed, "search", number)
        with np.errstate(**USUAL), exceptions_only(repr(searcher)):
            config = proposed(searcher, history.space, history, rng, paired, refused)
        if config is None:
            return None
        discrete = history.space.discrete(config)
        trial = Trial(number, config, repeats=history.first(config) if discrete or searcher.repeats else None)
        if ledger.enter(trial, once=discrete and trial.repeats is None):
            return trial
        refused.append(config)
