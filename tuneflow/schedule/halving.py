"""Asynchronous successive halving, by promotion and resume."""

import math
from itertools import pairwise

import numpy as np

from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start, Stop, Wait
from tuneflow.space import SearchSpace
from tuneflow.trial import History, Trial


class Halving(Scheduler):
    """Trains many trials a little and the best of them on, `factor` times as far at every rung.

    A trial that reaches a rung is paused there. Whenever a worker is free, the best paused trial that is among the best
    1 / `factor` of its rung is trained on from where it stands, to the next rung; if there is none, a new trial starts.
    When no more trials may start, what was not promoted ends as STOPPED.

    Args:
        factor: how many trials compete for one place at the next rung, at least 2.
        first: epochs of the first rung.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), MLSys 2020; here promoted trials go
    on from their state instead of starting anew.
    """

    def __init__(self, factor: int = 3, first: int = 1) -> None:
        who = type(self).__name__
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
            raise ValueError(f"{who}: factor needs to be a whole number >= 2, got {factor!r}.")
        if isinstance(first, bool) or not isinstance(first, int) or first < 1:
            raise ValueError(f"{who}: first needs to be a whole number >= 1, got {first!r}.")
        self.factor, self.first = factor, first

    def check(self, history: History) -> None:
        who = type(self).__name__
        if history.objective.several:
            raise ValueError(f"{who}: ranks trials by one objective, got several; use tn.Full().")
        if len(self.brackets(history.epochs)[0]) < 2:
            raise ValueError(
                f"{who}: factor={self.factor} and first={self.first} leave no rung below the full {history.epochs}"
                " epochs; use smaller ones, or tn.Full()."
            )

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which trials compete, the full length last: `[1, 3, 9, 10]` for 10 epochs."""
        below = (self.first * self.factor**k for k in range(int(math.log(epochs, self.factor)) + 1))
        return [*(rung for rung in below if rung < epochs), epochs]

    def brackets(self, epochs: int) -> list[list[int]]:
        """The rungs of each group of trials that compete with each other."""
        return [self.rungs(epochs)]

    def bracket(self, number: int, epochs: int) -> int:
        """Which of these groups the trial of this number is in."""
        return 0

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
        """Of a bracket, all trials that ever reached `rung`, the best first."""
        return [(cost, t) for cost, t in ranking(history, rung) if self.bracket(t.number, history.epochs) == place]

    def _reason(self, history: History, trial: Trial) -> str:
        place = self.bracket(trial.number, history.epochs)
        ranked = [t.number for _, t in self._ranked(history, place, trial.epochs)]
        among = f" of bracket {place}" if len(self.brackets(history.epochs)) > 1 else ""
        where = f"place {ranked.index(trial.number) + 1} of {len(ranked)} at epoch {trial.epochs}{among}"
        return f"{where}: not among the best 1/{self.factor}"


def ranking(history: History, epoch: int) -> list[tuple[float, Trial]]:
    """(cost at `epoch`, trial) of all trials that reached it, the best first, the earliest of equals first."""
    reached = (trial for trial in history.trials if trial.epochs >= epoch)
    return sorted(((cost_at(history, t, epoch), t) for t in reached), key=lambda pair: (pair[0], pair[1].number))


def cost_at(history: History, trial: Trial, epoch: int) -> float:
    """What spoke for a trial when it had trained `epoch` epochs, lower is better; inf without a report by then."""
    spoken = history.objective.pick([report for report in trial.reports if report.epoch <= epoch])
    return math.inf if spoken is None else history.objective.cost(spoken.metrics)
