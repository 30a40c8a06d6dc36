"""New trials: a searcher's configurations, entered in the store so that none comes twice by chance."""

import numpy as np

from tuneflow.errors import exceptions_only
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.runtime.environment import USUAL
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import stream
from tuneflow.space.search_space import Config
from tuneflow.study.ledger import Ledger


def new_trial(searcher: Searcher, ledger: Ledger, number: int, paired: bool) -> Trial | None:
    """Return the entered trial of a claimed number; None where the searcher has nothing left to try.

    A configuration that was tried before comes again only where it gets a seed of its own: under a searcher that
    repeats on purpose, in a study that is not paired, and where all were tried. Then its trial has the number of the
    first one.

    Args:
        searcher: proposes the configuration.
        ledger: the study's.
        number: the claimed number.
        paired: True if trials share their seeds.
    """
    history = ledger.history
    refused: list[Config] = []  # by the store, as another process was faster
    while True:
        config = _proposed(searcher, history, number, paired, refused)
        if config is None:
            return None
        discrete = history.space.discrete(config)
        trial = Trial(number, config, repeats=history.first(config) if discrete or searcher.repeats else None)
        if ledger.enter(trial, once=discrete and trial.repeats is None):
            return trial
        refused.append(config)


def first_config(searcher: Searcher, ledger: Ledger, paired: bool, limit: float) -> Config | None:
    """Return the configuration that trial 0 will have, unless another process changes the queue; None for none.

    Nothing is claimed or entered. The searcher is asked as it will be for the trial, which is a question with one
    answer: a suggestion depends on space, history and rng only.

    Args:
        searcher: proposes it, where the queue is empty.
        ledger: the study's.
        paired: True if trials share their seeds.
        limit: number of trials that the run ends with.
    """
    history = ledger.history
    history.number, history.remaining = 0, limit
    queued = ledger.store.next_queued(0)
    return _proposed(searcher, history, 0, paired, []) if queued is None else ledger.checked(queued)


def _proposed(searcher: Searcher, history: History, number: int, paired: bool, refused: list[Config]) -> Config | None:
    rng = stream(history.seed, "search", number)
    with np.errstate(**USUAL), exceptions_only(repr(searcher)):
        return proposed(searcher, history.space, history, rng, paired, refused)
