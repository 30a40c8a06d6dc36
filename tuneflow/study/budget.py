"""Budget: how long a run goes on, as a function of the history and the clock."""

import math
import time
from dataclasses import dataclass
from typing import Any

from tuneflow.errors import plural
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.validate import check_seconds, check_whole


@dataclass(frozen=True)
class Budget:
    """The limits of a run.

    Args:
        trials: largest number of trials in all; inf for no limit.
        epochs: largest number of epochs in all, those of earlier runs included; inf for no limit.
        deadline: end of the run on time.monotonic()'s clock, in seconds; inf for no limit.
        target: a score that is good enough; None for no such score.
        plateau: largest number of ended trials in a row without a better one; None for no limit.
    """

    trials: float = math.inf
    epochs: float = math.inf
    deadline: float = math.inf
    target: float | None = None
    plateau: int | None = None

    @classmethod
    def of(cls, objective: Objective, trials: Any, epochs: Any, seconds: Any, target: Any, plateau: Any) -> "Budget":
        """Return the budget of `Study.run`'s arguments.

        Raises:
            ValueError, TypeError: an argument is out of its range.
        """
        if target is not None and (isinstance(target, bool) or not isinstance(target, int | float) or target != target):
            raise TypeError(f"run: target needs to be a score of {objective.metric}, got {target!r}.")
        for name, value in (("target", target), ("plateau", plateau)):
            if value is not None and objective.several:
                raise ValueError(
                    f"run: {name} needs one objective, and this study has several; trials=, epochs= and seconds= end a"
                    " run too."
                )
        return cls(
            math.inf if trials is None else check_whole("run: trials", trials),
            math.inf if epochs is None else check_whole("run: epochs", epochs),
            math.inf if seconds is None else time.monotonic() + check_seconds("run: seconds", seconds),
            target,
            None if plateau is None else check_whole("run: plateau", plateau),
        )

    def over(self, history: History, trained: float) -> str:
        """Return the reason to end the run now, with `trained` epochs trained in all; empty when it goes on."""
        if trained >= self.epochs:
            return f"{plural(int(trained), 'epoch')} {'is' if trained == 1 else 'are'} trained"
        if time.monotonic() >= self.deadline:
            return "the time is over"
        if self.target is None and self.plateau is None:
            return ""
        objective, best = history.objective, history.leader
        if self.target is not None and best is not None:
            score = best.metrics[objective.metric]
            if (score >= self.target) if objective.maximize else (score <= self.target):
                return f"trial {best.number} has {objective.metric} {score:g}, and {self.target:g} is enough"
        if self.plateau is not None and history.stale >= self.plateau:
            return f"{history.stale} trials have ended without a better one"
        return ""
