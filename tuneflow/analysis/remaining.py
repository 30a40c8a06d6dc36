"""Remaining work: the epochs that a run will still train, by how far its trials have come so far."""

import math
from collections import Counter
from collections.abc import Sequence

from tuneflow.history.history import History
from tuneflow.history.trial import Trial


def epochs_left(history: History, total: float) -> float:
    """Return about how many epochs are to be trained until there are `total` trials and all of them are over.

    A trial is taken to end after an epoch as frequently as those did that came there before. Where every trial runs to
    the full length, the number is exact. A paused trial counts as over once a later one went beyond its epoch: so it
    is with schedulers that never resume most of what they pause.

    Returns:
        NaN where trials or their length have no limit.
    """
    if not math.isfinite(total) or history.open_end:
        return math.nan
    passed = passed_over(history.trials, history.epochs)
    ends = end_rates(history.trials, passed, history.lengths, history.epochs)
    further = _further(ends)
    new: float = (1 - ends[0]) * further[0] * max(0.0, total - len(history) + history.claimed)
    live = (t for t in [*history.running, *history.paused, *history.extending] if t.epochs < history.epochs)
    shares = ((t, 1.0 if t.status == "RUNNING" else 1 - ends[t.epochs]) for t in live if t.number not in passed)
    begun: float = sum(share * further[trial.epochs] for trial, share in shares)
    return new + begun


def passed_over(trials: Sequence[Trial], full: int) -> set[int]:
    """Return the numbers of paused trials beyond whose epoch a later one went."""
    newest = [-1] * (full + 1)  # the last trial that came to each epoch
    for trial in trials:
        newest[min(trial.epochs, full)] = trial.number
    for epoch in range(full - 1, -1, -1):
        newest[epoch] = max(newest[epoch], newest[epoch + 1])
    paused = (trial for trial in trials if trial.status == "PAUSED" and trial.epochs < full)
    return {trial.number for trial in paused if newest[trial.epochs + 1] > trial.number}


def end_rates(trials: Sequence[Trial], over: set[int], lengths: Sequence[int], full: int) -> list[float]:
    """Return for each epoch below `full` the share of the trials that ended there, of those that came there.

    Args:
        trials: every trial.
        over: numbers of those that have not ended, and count as if they had.
        lengths: full lengths before the study was extended, at which trials ended that came to their own end.
        full: the full length.
    """
    ended, starts, reached = Counter[int](), Counter[int](), Counter[int]()
    for trial in trials:
        if trial.status != "CLAIMED":
            starts[trial.parent[1] if trial.parent else 0] += 1
            reached[trial.epochs] += 1
            ended[trial.epochs] += (trial.ended and trial.epochs not in lengths) or trial.number in over
    rates, here = [], 0
    for epoch in range(full):
        here += starts[epoch]
        beyond = here - reached[epoch]
        rates.append(ended[epoch] / (ended[epoch] + beyond) if ended[epoch] else 0.0)
        here = beyond
    return rates


def _further(ends: Sequence[float]) -> list[float]:
    """Return for each number of epochs how many more a trial has to come that goes on from there."""
    further = [1.0] * len(ends)
    for epoch in range(len(ends) - 2, -1, -1):
        further[epoch] = 1.0 + (1.0 - ends[epoch + 1]) * further[epoch + 1]
    return further
