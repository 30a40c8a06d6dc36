"""Objective: what a study looks for, and what a trial has to keep to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from tuneflow.errors import StudyError, did_you_mean, listed


class Told(Protocol):
    """What has metrics by name, as a Report."""

    @property
    def metrics(self) -> Mapping[str, float]: ...


ToldT = TypeVar("ToldT", bound=Told)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a metric has to keep to.

    Attributes:
        least, most: the range it has to be in, both ends included; None where it is open.
    """

    metric: str
    least: float | None = None
    most: float | None = None

    def excess(self, value: float) -> list[float]:
        """For each bound there is, how far `value` is beyond it; 0 or less within, `inf` for NaN."""
        found = []
        if self.least is not None:
            found.append(math.inf if value != value else self.least - value)
        if self.most is not None:
            found.append(math.inf if value != value else value - self.most)
        return found

    @property
    def bounds(self) -> list[float]:
        return [bound for bound in (self.least, self.most) if bound is not None]

    def __str__(self) -> str:
        words = [f"{word} {bound:g}" for word, bound in (("at least", self.least), ("at most", self.most))
                 if bound is not None]  # fmt: skip
        return f"{self.metric} {' and '.join(words)}"


@dataclass(frozen=True, slots=True)
class Objective:
    """What a study looks for: which metrics, which way each, and which epoch speaks for a trial.

    Args:
        goals: (metric, whether larger is better), one or several.
        at: "best", the trial's best epoch, or "last". Score, kept state and scheduler follow it alike. With
            several goals there is no best epoch, and the last one speaks.
        limits: what trials have to keep to; one that does not is worse than any that does.
    """

    goals: tuple[tuple[str, bool], ...]
    at: Literal["best", "last"] = "best"
    limits: tuple[Limit, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.goals) > 1

    @property
    def metric(self) -> str:
        """The first goal's metric."""
        return self.goals[0][0]

    @property
    def maximize(self) -> bool:
        """Whether the first goal's metric is better when it is larger."""
        return self.goals[0][1]

    @property
    def metrics(self) -> list[str]:
        """Every metric that counts: the goals', then those that have limits only."""
        return list(dict.fromkeys([*(metric for metric, _ in self.goals), *(limit.metric for limit in self.limits)]))

    def cost(self, metrics: Mapping[str, float]) -> float:
        """The first goal's metric, turned so that lower is better; NaN counts as the worst.

        Raises:
            StudyError: the metric was not reported; those that were are named.
        """
        return _cost(metrics, *self.goals[0])

    def costs(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Every goal's metric as `cost` turns it."""
        return tuple(_cost(metrics, metric, maximize) for metric, maximize in self.goals)

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """For each bound of the limits, how far it is passed, in units of the metric; 0 or less where it is kept."""
        return [beyond for limit in self.limits for beyond in limit.excess(_value(metrics, limit.metric))]

    @property
    def units(self) -> list[float]:
        """For each bound of the limits, what a breach of it is a share of."""
        return [abs(bound) or 1.0 for limit in self.limits for bound in limit.bounds]

    def breach(self, metrics: Mapping[str, float]) -> float:
        """How far the limits are passed in all, each as a share of its bound; 0 within all of them."""
        return sum(max(0.0, beyond) / unit for beyond, unit in zip(self.excesses(metrics), self.units, strict=True))

    def rank(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """What trials are ordered by, the lower the better: the breach of limits, then the first goal's cost."""
        return self.breach(metrics), self.cost(metrics)

    def pick(self, reports: Sequence[ToldT]) -> ToldT | None:
        """The report that speaks for a trial: the earliest best one, or the last; None without one."""
        if not reports:
            return None
        if self.at == "last" or self.several:
            return reports[-1]
        return min(reports, key=lambda report: self.rank(report.metrics))


def _cost(metrics: Mapping[str, float], metric: str, maximize: bool) -> float:
    value = _value(metrics, metric)
    if value != value:
        return math.inf
    return -value if maximize else value


def _value(metrics: Mapping[str, float], metric: str) -> float:
    try:
        return metrics[metric]
    except KeyError:
        near = did_you_mean(metric, metrics)
        raise StudyError(f'metric "{metric}" was never reported.{near} Reported: {listed(metrics)}.') from None
