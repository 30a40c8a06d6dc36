"""Hyperband, asynchronous and by resume: several halvings side by side, from many short trials to few full ones."""

import math
from functools import lru_cache

from tuneflow.schedule.halving import Halving


class Hyperband(Halving):
    """Halving with several first rungs, for those who do not know how soon a bad trial shows.

    Trials are dealt out to brackets by their number, more to those that begin with a short rung, so that each bracket
    gets about the same number of epochs. Within its bracket a trial competes as under Halving, and goes on from its
    state: the best 1 / `factor` of a rung are trained on, `factor` times as far.

    Args:
        factor: how many trials compete for one place at the next rung, at least 2.
        first: epochs of the shortest rung.

    Source: Li et al., Hyperband, JMLR 18, 2018; asynchronous as in Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020.
    """

    def brackets(self, epochs: int) -> list[list[int]]:
        """The rungs of each bracket, the shortest first: `[[1, 3, 9], [3, 9], [9]]` for 9 epochs."""
        count = max(0, int(math.log(epochs / self.first, self.factor) + 1e-9))
        rungs = [math.ceil(epochs / self.factor**k) for k in range(count, -1, -1)]
        return [rungs[start:] for start in range(len(rungs))]

    def bracket(self, number: int, epochs: int) -> int:
        """Which bracket the trial of this number is in."""
        dealt = _dealt(len(self.brackets(epochs)), self.factor)
        return dealt[number % len(dealt)]


@lru_cache
def _dealt(count: int, factor: int) -> tuple[int, ...]:
    """The brackets of the first trials, after which it begins anew."""
    sizes = [math.ceil(count / (count - place) * factor ** (count - 1 - place)) for place in range(count)]
    return tuple(place for place, size in enumerate(sizes) for _ in range(size))
