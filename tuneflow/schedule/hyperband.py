"""Hyperband, asynchronous and by resume: several halvings side by side, from many short trials to few full ones."""

import math
from itertools import pairwise

import numpy as np

from tuneflow.schedule.halving import check_halving, check_rungs, ranking
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start, Stop, Wait
from tuneflow.space import SearchSpace
from tuneflow.trial import History, Trial


class Hyperband(Scheduler):
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

    def __init__(self, factor: int = 3, first: int = 1) -> None:
        self.factor, self.first = check_halving("Hyperband", factor, first)

    def check(self, history: History) -> None:
        check_rungs("Hyperband", self.first, history)

    def brackets(self, epochs: int) -> list[list[int]]:
        """The rungs of each bracket, the shortest first: `[[1, 3, 9], [3, 9], [9]]` for 9 epochs."""
        count = int(math.log(epochs / self.first, self.factor) + 1e-9)
        rungs = [math.ceil(epochs / self.factor**k) for k in range(count, -1, -1)]
        return [rungs[start:] for start in range(len(rungs))]

    def bracket(self, number: int, epochs: int) -> int:
        """Which bracket the trial of this number is in."""
        count = len(self.brackets(epochs))
        sizes = [math.ceil(count / (count - place) * self.factor ** (count - 1 - place)) for place in range(count)]
        place, left = 0, number % sum(sizes)
        while left >= sizes[place]:
            left -= sizes[place]
            place += 1
        return place

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        brackets = self.brackets(history.epochs)
        paused = {trial.number: trial for trial in history.paused}
        for trial in paused.values():
            rungs = brackets[self.bracket(trial.number, history.epochs)]
            if trial.epochs not in rungs:  # it was interrupted
                return Continue(trial.number, min(rung for rung in rungs if rung > trial.epochs))
        for place, rungs in enumerate(brackets):
            for rung, following in reversed(list(pairwise(rungs))):
                ranked = self._ranked(history, place, rung)
                for cost, trial in ranked[: len(ranked) // self.factor]:
                    if trial.number in paused and trial.epochs == rung and math.isfinite(cost):
                        return Continue(trial.number, following)
        if history.remaining > 0:
            return Start(brackets[self.bracket(history.number, history.epochs)][0])
        if history.running or not paused:
            return Wait()
        left = paused[min(paused)]
        return Stop(left.number, self._reason(history, left))

    def _ranked(self, history: History, place: int, rung: int) -> list[tuple[float, Trial]]:
        """Of a bracket, the trials that reached `rung`, the best first."""
        return [(cost, t) for cost, t in ranking(history, rung) if self.bracket(t.number, history.epochs) == place]

    def _reason(self, history: History, trial: Trial) -> str:
        place = self.bracket(trial.number, history.epochs)
        ranked = [t.number for _, t in self._ranked(history, place, trial.epochs)]
        return (
            f"place {ranked.index(trial.number) + 1} of {len(ranked)} at epoch {trial.epochs} of bracket {place}: not"
            f" among the best 1/{self.factor}"
        )
