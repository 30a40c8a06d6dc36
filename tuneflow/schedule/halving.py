"""Asynchronous successive halving, by promotion and resume."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from tuneflow.errors import plural
from tuneflow.history.history import History
from tuneflow.history.pareto import ranking
from tuneflow.history.trial import Trial
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start, Stop, Wait
from tuneflow.space.search_space import SearchSpace
from tuneflow.validate import check_whole


class Halving(Scheduler):
    """Trains many trials for a few epochs and the best of them further, `factor` times as far at every rung.

    A trial that reaches a rung is paused there. Whenever a worker is free, the best paused trial among the best 1 /
    `factor` of its rung resumes from its state and trains to the next rung; if there is none, a new trial starts. When
    no more trials may start, every trial that was not promoted ends as STOPPED. With several objectives the best are
    those on the first fronts, the least crowded first; with limits, feasible trials come first.

    Args:
        factor: number of trials that compete for one place at the next rung, at least 2.
        first: epochs of the first rung, at least 1.

    Raises:
        ValueError: `factor` or `first` is too small; when the study is made: no rung is below the full length, or one
            is below the first epoch that has the objective, where only some have.

    Example:
        >>> import tuneflow as tn
        >>> @tn.loop(epochs=9)
        ... def fit(config, run):
        ...     for epoch in run.epochs():
        ...         yield {"loss": config["x"] + 1 / epoch}
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> study = tn.Study(space=space, trainer=fit, scheduler=Halving(), minimize="loss", progress=False)
        >>> study.run(trials=9)
        >>> sorted(trial.epochs for trial in study.trials)
        [1, 1, 1, 1, 1, 3, 3, 3, 9]

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), MLSys 2020; here promoted trials
    resume from their state instead of starting anew.
    """

    def __init__(self, factor: int = 3, first: int = 1) -> None:
        who = type(self).__name__
        self.factor, self.first = check_whole(f"{who}: factor", factor, 2), check_whole(f"{who}: first", first)

    def check(self, history: History) -> None:
        if len(self.brackets(history.epochs)[0]) < 2:
            raise ValueError(
                f"{type(self).__name__}: factor={self.factor} and first={self.first} leave no rung below the full"
                f" {plural(history.epochs, 'epoch')}; use smaller ones, or tn.Full()."
            )
        lowest, objective = min(rungs[0] for rungs in self.brackets(history.epochs)), history.objective
        if lowest < min(objective.every, history.epochs):
            way = f"first={objective.every}, or " if objective.every < history.epochs else ""
            raise ValueError(
                f"{type(self).__name__}: trials compete from epoch {lowest} on, and {objective.rare} is first reported"
                f" at epoch {min(objective.every, history.epochs)}; use {way}a metric with a smaller every."
            )

    def rungs(self, epochs: int) -> list[int]:
        """Epochs at which trials compete, the full length last: `[1, 3, 9, 10]` for 10 epochs."""
        below = (self.first * self.factor**k for k in range(int(math.log(epochs, self.factor)) + 1))
        return [*(rung for rung in below if rung < epochs), epochs]

    def brackets(self, epochs: int) -> list[list[int]]:
        """The rungs of each group of trials that compete with each other."""
        return [self.rungs(epochs)]

    def bracket(self, number: int, epochs: int) -> int:  # noqa: ARG002
        """The index of the bracket that the trial of this number is in."""
        return 0

    @override
    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        brackets = self.brackets(history.epochs)
        paused = {trial.number: trial for trial in history.paused}
        for trial in paused.values():
            rungs = brackets[self.bracket(trial.number, history.epochs)]
            if trial.epochs not in rungs[:-1]:  # it was interrupted
                return Continue(trial.number, min((rung for rung in rungs if rung > trial.epochs), default=rungs[-1]))
        if paused:
            for place, rungs in enumerate(brackets):
                for rung, following in reversed(list(pairwise(rungs))):
                    for number in self._promoted(history, place, rung):
                        if number in paused and paused[number].epochs == rung:
                            return Continue(number, following)
        if history.remaining > 0:
            return Start(brackets[self.bracket(history.number, history.epochs)][0])
        if history.running or not paused:
            return Wait()
        left = paused[min(paused)]
        return Stop(left.number, self._reason(history, left))

    def _promoted(self, history: History, place: int, rung: int) -> list[int]:
        """Return the numbers of the trials of a bracket that may go beyond `rung`, the best first."""
        costs = history.costs_at(rung)
        reached = self._reached(history, place, costs)
        count = len(reached) // self.factor
        best = reached[ranking(costs[reached], count, history.breach_at(rung)[reached])[:count]]
        return [int(number) for number in best if np.isfinite(costs[number]).all()]

    def _reached(self, history: History, place: int, costs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the numbers of the trials of a bracket that have costs."""
        known = np.flatnonzero(~np.isnan(costs.reshape(len(costs), -1)).any(1)).tolist()
        own = [number for number in known if self.bracket(number, history.epochs) == place]
        return np.array(own, dtype=np.intp)

    def _reason(self, history: History, trial: Trial) -> str:
        place, costs = self.bracket(trial.number, history.epochs), history.costs_at(trial.epochs)
        reached = self._reached(history, place, costs)
        ranked = reached[ranking(costs[reached], beyond=history.breach_at(trial.epochs)[reached])].tolist()
        among = f" of bracket {place}" if len(self.brackets(history.epochs)) > 1 else ""
        where = f"place {ranked.index(trial.number) + 1} of {len(ranked)} at epoch {trial.epochs}{among}"
        if len(ranked) < self.factor:
            return f"{where}: {self.factor} have to come as far for one to go on"
        return f"{where}: not among the best 1/{self.factor}"
