"""Asynchronous successive halving, by promotion and resume."""

import math
from collections.abc import Iterator

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
        self.factor, self.first = check_halving("Halving", factor, first)

    def check(self, history: History) -> None:
        check_rungs("Halving", self.first, history)

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which trials compete, the full length last: `[1, 3, 9, 10]` for 10 epochs."""
        below = (self.first * self.factor**k for k in range(int(math.log(epochs, self.factor)) + 1))
        return [*(rung for rung in below if rung < epochs), epochs]

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        rungs = self.rungs(history.epochs)
        interrupted = next((t for t in history.paused if t.epochs not in rungs), None)
        if interrupted is not None:
            return Continue(interrupted.number, min(rung for rung in rungs if rung > interrupted.epochs))
        paused = {trial.number for trial in history.paused}
        for place in range(len(rungs) - 2, -1, -1):
            for cost, trial in self._promotable(history, rungs[place]):
                if trial.number in paused and trial.epochs == rungs[place] and math.isfinite(cost):
                    return Continue(trial.number, rungs[place + 1])
        if history.remaining > 0:
            return Start(rungs[0])
        if history.running or not paused:
            return Wait()
        left = history.trials[min(paused)]
        return Stop(left.number, self._reason(history, left))

    def _promotable(self, history: History, rung: int) -> Iterator[tuple[float, Trial]]:
        """The best 1 / factor of all trials that ever reached `rung`, the best first."""
        ranked = ranking(history, rung)
        yield from ranked[: len(ranked) // self.factor]

    def _reason(self, history: History, trial: Trial) -> str:
        ranked = [t.number for _, t in ranking(history, trial.epochs)]
        place = ranked.index(trial.number) + 1
        return f"place {place} of {len(ranked)} at epoch {trial.epochs}: not among the best 1/{self.factor}"


def check_halving(who: str, factor: int, first: int) -> tuple[int, int]:
    """(factor, first), or a ValueError."""
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
        raise ValueError(f"{who}: factor needs to be a whole number >= 2, got {factor!r}.")
    if isinstance(first, bool) or not isinstance(first, int) or first < 1:
        raise ValueError(f"{who}: first needs to be a whole number >= 1, got {first!r}.")
    return factor, first


def check_rungs(who: str, first: int, history: History) -> None:
    """Raise ValueError where a study has no rungs to compete at."""
    if history.objective.several:
        raise ValueError(f"{who}: ranks trials by one objective, got several; use tn.Full().")
    if first >= history.epochs:
        raise ValueError(
            f"{who}: first={first} leaves no rung below the full {history.epochs} epochs; use a smaller first, or"
            " tn.Full()."
        )


def ranking(history: History, epoch: int) -> list[tuple[float, Trial]]:
    """(cost at `epoch`, trial) of all trials that reached it, the best first, the earliest of equals first."""
    reached = (trial for trial in history.trials if trial.epochs >= epoch)
    return sorted(((cost_at(history, t, epoch), t) for t in reached), key=lambda pair: (pair[0], pair[1].number))


def cost_at(history: History, trial: Trial, epoch: int) -> float:
    """What spoke for a trial when it had trained `epoch` epochs, lower is better; inf without a report by then."""
    spoken = history.objective.pick([report for report in trial.reports if report.epoch <= epoch])
    return math.inf if spoken is None else history.objective.cost(spoken.metrics)
