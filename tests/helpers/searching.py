"""Searchers without a study around them: a history that they fill, and a space and a cost to search."""

import tuneflow as tn
from tuneflow.history.objective import Objective
from tuneflow.search.searcher import proposed
from tuneflow.seeds import stream


def cube(dimensions):
    """A space of so many numbers between 0 and 1."""
    return tn.SearchSpace(**{f"x{i}": tn.Float(0, 1) for i in range(dimensions)})


def bowl(config):
    """Least, 0, where every value is 0.3."""
    return sum((value - 0.3) ** 2 for value in config.values())


def history_of(space, seed=0, goals=("loss",)):
    return tn.types.History(space, Objective(tuple((goal, False) for goal in goals)), seed)


def searched(searcher, space, cost, trials, seed=0, goals=("loss",), fresh=None):
    """The history after `trials` trials at most, one at a time; of a new searcher for each, where `fresh` makes it."""
    history = history_of(space, seed, goals)
    for number in range(trials):
        config = proposed(fresh() if fresh else searcher, space, history, stream(seed, "search", number))
        if config is None:
            break
        costs = cost(config)
        metrics = dict(zip(goals, costs if isinstance(costs, tuple) else (costs,), strict=True))
        history.record(tn.Trial(number, config, "DONE", metrics=metrics))
    return history


def ask_all(searcher, space, history, count, seed=0):
    """What `count` workers get that ask before anybody tells; they are running from then on."""
    configs = []
    for number in range(len(history), len(history) + count):
        configs.append(proposed(searcher, space, history, stream(seed, "search", number)))
        history.record(tn.Trial(number, configs[-1]))
    return configs
