"""Patience: the rule that ends a trial when its validation metric no longer improves."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tuneflow.errors import plural
from tuneflow.train.rates import check_metric, watched
from tuneflow.validate import check_flag, check_whole


@dataclass(frozen=True)
class Patience:
    """Ends a trial when a validation metric has not improved for `epochs` epochs in a row.

    Args:
        epochs: how many epochs without an improvement end the trial, >= 1; it ends after one that has the metric.
        metric: name of a reported metric.
        maximize: True if larger is better.

    Raises:
        ValueError, TypeError: an argument is of another kind, or out of its range.
    """

    epochs: int
    metric: str = "loss"
    maximize: bool = False

    def __post_init__(self) -> None:
        check_whole("Patience: epochs", self.epochs)
        check_flag("Patience: maximize", self.maximize)
        check_metric("Patience", self.metric)


class Waiting:
    """The state of a Patience: the best value so far, and the number of epochs since."""

    def __init__(self, patience: Patience | None) -> None:
        self._patience, self._best, self._bad = patience, math.inf, 0
        self._unseen = 0  # epochs without the metric, since the last one with it

    def after_epoch(self, metrics: Mapping[str, float], lacking: Collection[str] = ()) -> None:
        """Take in a report, which may lack some metrics of the module."""
        if self._patience is None:
            return
        if self._patience.metric in lacking:
            self._unseen += 1
            return
        value = watched(metrics, self._patience.metric)
        cost = -value if self._patience.maximize else value
        better = math.isfinite(cost) and cost < self._best
        self._best, self._bad = (cost, 0) if better else (self._best, self._bad + self._unseen + 1)
        self._unseen = 0

    @property
    def over(self) -> str:
        """Reason why the trial is done; empty while it is not."""
        if self._patience is None or self._bad < self._patience.epochs:
            return ""
        return f"{self._patience.metric} no better for {plural(self._bad, 'epoch')}"

    def state(self) -> dict[str, Any]:
        unseen = {"unseen": self._unseen} if self._unseen else {}
        return {"best": self._best, "bad": self._bad, **unseen}

    def load(self, state: Mapping[str, Any]) -> None:
        self._best, self._bad, self._unseen = state["best"], state["bad"], state.get("unseen", 0)
