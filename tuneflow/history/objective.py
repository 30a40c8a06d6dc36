"""Objective: the metrics that a study tunes for, and the limits that a trial has to keep."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from tuneflow.errors import StudyError, did_you_mean, listed


class HasMetrics(Protocol):
    """Anything with metrics by name, such as a Report."""

    @property
    def metrics(self) -> Mapping[str, float]: ...


ReportT = TypeVar("ReportT", bound=HasMetrics)


@dataclass(frozen=True, slots=True)
class Limit:
    """The range that a metric has to be in, both ends included.

    Attributes:
        metric: the metric's name.
        least: the lower bound; None where there is none.
        most: the upper bound; None where there is none.
    """

    metric: str
    least: float | None = None
    most: float | None = None

    def excess(self, value: float) -> list[float]:
        """Return by how much `value` exceeds each bound; 0 or less within, `inf` for NaN."""
        below = [] if self.least is None else [self.least - value]
        above = [] if self.most is None else [value - self.most]
        return [math.inf if excess != excess else excess for excess in below + above]

    @property
    def bounds(self) -> list[float]:
        """The bounds that there are, the lower one first."""
        return [bound for bound in (self.least, self.most) if bound is not None]

    def __str__(self) -> str:
        words = [f"{word} {bound:g}" for word, bound in (("at least", self.least), ("at most", self.most))
                 if bound is not None]  # fmt: skip
        return f"{self.metric} {' and '.join(words)}"


@dataclass(frozen=True, slots=True)
class Objective:
    """The metrics to tune for, the direction of each, and the epoch that counts for a trial.

    Args:
        goals: (metric, True if larger is better), one or several.
        at: the epoch that counts: "best", the trial's best one, or "last". Score, kept state and scheduler follow it
            alike. With several goals there is no best epoch, and the last one counts.
        limits: bounds on metrics; a trial that breaks one is worse than any that does not.
        sparse: (metric, k) of those that the trainer reports at each k-th epoch and the last one only. An epoch
            counts if it has all metrics of goals and limits.
    """

    goals: tuple[tuple[str, bool], ...]
    at: Literal["best", "last"] = "best"
    limits: tuple[Limit, ...] = ()
    sparse: tuple[tuple[str, int], ...] = ()
    _names: dict[str, None] = field(init=False, repr=False, compare=False)  # of every metric that counts, in order

    def __post_init__(self) -> None:
        names = [*(metric for metric, _ in self.goals), *(limit.metric for limit in self.limits)]
        object.__setattr__(self, "_names", dict.fromkeys(names))

    @property
    def several(self) -> bool:
        """True with more than one goal."""
        return len(self.goals) > 1

    @property
    def metric(self) -> str:
        """The first goal's metric."""
        return self.goals[0][0]

    @property
    def maximize(self) -> bool:
        """True if the first goal's metric is better when it is larger."""
        return self.goals[0][1]

    @property
    def metrics(self) -> list[str]:
        """Every metric that counts, the goals', then those that have limits only."""
        return list(self._names)

    def check(self, metrics: Mapping[str, float], last: bool = False) -> None:
        """Raise StudyError unless the metrics of every goal and limit are among those reported, now or later.

        Args:
            metrics: of a report.
            last: True for the report at the full length, after which none is later.
        """
        later = {} if last else dict(self.sparse)
        for metric in self.metrics:
            if metric not in later:
                _value(metrics, metric)

    @property
    def every(self) -> int:
        """Each how many epochs all metrics of goals and limits are reported together, the last one apart."""
        return math.lcm(*(every for metric, every in self.sparse if metric in self.metrics))

    @property
    def rare(self) -> str:
        """The metrics of goals and limits that some reports lack, in words."""
        return listed([metric for metric, _ in self.sparse if metric in self.metrics])

    def complete(self, metrics: Mapping[str, float]) -> bool:
        """True if the metrics of every goal and limit are among those reported, so that an epoch can count."""
        return self._names.keys() <= metrics.keys()

    def bounded(self, metrics: Mapping[str, float]) -> bool:
        """True unless a goal's metric was reported and is not finite."""
        return all(math.isfinite(metrics.get(metric, 0.0)) for metric, _ in self.goals)

    def cost(self, metrics: Mapping[str, float]) -> float:
        """Return the first goal's metric, turned so that lower is better; what is not finite is inf.

        Raises:
            StudyError: the metric was not reported; those that were are named.
        """
        return _cost(metrics, *self.goals[0])

    def costs(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return every goal's metric, turned as by `cost`."""
        return tuple(_cost(metrics, metric, maximize) for metric, maximize in self.goals)

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """Return the excess over each bound of the limits, in units of the metric; 0 or less where it is kept."""
        return [beyond for limit in self.limits for beyond in limit.excess(_value(metrics, limit.metric))]

    @property
    def units(self) -> list[float]:
        """The unit of each bound's breach, its absolute value, or 1 for a bound of 0."""
        return [abs(bound) or 1.0 for limit in self.limits for bound in limit.bounds]

    def breach(self, metrics: Mapping[str, float]) -> float:
        """Return the sum of the excesses over the limits, each as a share of its bound; 0 within all of them."""
        if not self.limits:
            return 0.0
        return sum(max(0.0, beyond) / unit for beyond, unit in zip(self.excesses(metrics), self.units, strict=True))

    def rank(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """Return the sort key of trials, the best first: the breach of limits, then the first goal's cost."""
        return self.breach(metrics), self.cost(metrics)

    def pick(self, reports: Sequence[ReportT]) -> ReportT | None:
        """Return the report of the epoch that counts: the earliest best one, or the last; None without one.

        An epoch whose goal is not finite is worse than any other, and one that lacks a metric does not count.
        """
        reports = [report for report in reports if self.complete(report.metrics)]
        if not reports:
            return None
        if self.at == "last" or self.several:
            return reports[-1]
        return min(reports, key=lambda report: (math.isinf(self.cost(report.metrics)), self.rank(report.metrics)))


def _cost(metrics: Mapping[str, float], metric: str, maximize: bool) -> float:
    value = _value(metrics, metric)
    if not math.isfinite(value):
        return math.inf
    return -value if maximize else value


def _value(metrics: Mapping[str, float], metric: str) -> float:
    try:
        return metrics[metric]
    except KeyError:
        near = did_you_mean(metric, metrics)
        way = " Tune for one of these by metric= of tn.minimize, or minimize= of a study." if metric == "value" else ""
        raise StudyError(f'metric "{metric}" was never reported.{near} Reported: {listed(metrics)}.{way}') from None
