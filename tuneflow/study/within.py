"""Limits relative to a result: at most so much worse than the trial that a study starts from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneflow.errors import did_you_mean, listed
from tuneflow.validate import is_number, shown

SLACK = 1e-12  # of the value: two equal scores may differ by so much as they are computed
LESS = {"loss", "error", "mae", "mse", "rmse", "nll", "perplexity", "ece", "latency", "macs", "flops", "parameters",
        "bytes", "memory"}  # fmt: skip  # words of metrics of which less is better
MORE = {"accuracy", "acc", "auc", "f1", "r2", "precision", "recall"}


@dataclass(frozen=True)
class Within:
    """A limit that follows from a result: `within` makes it, and a study turns it into a bound.

    Attributes:
        margin: how much worse a trial may be, in units of the metric.
        of: the result, a trial, or the number that it has.
    """

    margin: float
    of: Any

    def bounds(self, metric: str, more: bool | None) -> tuple[float | None, float | None]:
        """Return the lower and the upper bound of a metric; None where there is none.

        Args:
            metric: its name.
            more: True where more of it is better, False where less is; None where that is not known.

        Raises:
            ValueError: the result has no such metric, or `more` is None.
        """
        value, where = self._value(metric), f"Study: limits[{metric!r}]: tn.within"
        if more is None:
            raise ValueError(
                f'{where} needs to know whether more or less of "{metric}" is better; tune for it with maximize= or'
                f" minimize=, or give the bound itself: ({value - self.margin:g}, None) for the least,"
                f" {value + self.margin:g} for the most."
            )
        slack = SLACK * abs(value)
        return (value - self.margin - slack, None) if more else (None, value + self.margin + slack)

    def _value(self, metric: str) -> float:
        if is_number(self.of):
            return float(self.of)
        metrics, where = self.of.metrics, f"Study: limits[{metric!r}]: tn.within: trial {self.of.number}"
        if metric not in metrics:
            there = f"it has {listed(metrics)}" if metrics else f"it is {self.of.status}"
            raise ValueError(
                f'{where} has no "{metric}".{did_you_mean(metric, metrics)} Give its value, as in'
                f" tn.within({self.margin:g}, of=1.0); {there}."
            )
        if not math.isfinite(metrics[metric]):
            raise ValueError(f'{where} has "{metric}" {metrics[metric]}; a limit needs a finite number.')
        return float(metrics[metric])

    def __repr__(self) -> str:
        of = f"{self.of:g}" if is_number(self.of) else f"trial {self.of.number}"
        return f"tn.within({self.margin:g}, of={of})"


def within(margin: float, *, of: Any) -> Within:
    """Return a limit for `limits=` of a Study: at most `margin` worse than a result, in units of the metric.

    The bound is a number from then on, kept with the study: a study that goes on needs a result of the same score.
    A worse value is a smaller one where the metric is maximized, or known as one of which more is better (by its
    attribute `higher_is_better`, or by its name, as accuracy); else a larger one.

    Args:
        margin: 0 for "not worse at all".
        of: a finished trial, such as `study.best` of the study that the winner comes from, whose observed score
            counts; or a number.

    Raises:
        ValueError: `margin` is negative, or no finite number. When the study is made: `of` has no such metric, or
            nothing tells whether more of it is better.
        TypeError: `of` is no trial and no number.

    Example:
        >>> within(0.01, of=0.87)
        tn.within(0.01, of=0.87)
    """
    if not is_number(margin) or margin < 0:
        raise ValueError(
            f"tn.within: margin needs to be a number >= 0, how much worse a trial may be, got {margin!r}; a bound"
            " that asks for more is written as a number."
        )
    if isinstance(of, int | float) and not isinstance(of, bool) and not is_number(of):
        raise ValueError(f"tn.within: of needs to be finite, got {shown(of)}.")
    if not is_number(of) and not (hasattr(of, "metrics") and hasattr(of, "number")):
        way = "; write of=study.best" if hasattr(type(of), "best") else ""
        raise TypeError(
            f"tn.within: of needs a finished trial, such as study.best, or a number, got {type(of).__name__}{way}."
        )
    return Within(float(margin), of)


def more_is_better(name: str, goals: Mapping[str, bool], metric: Any = None) -> bool | None:
    """Return True for a metric of which more is better, False where less is; None where that is not known.

    Args:
        name: the metric's.
        goals: True for each objective that is maximized.
        metric: the metric itself, which may have an attribute `higher_is_better`; None where it is not known.
    """
    if name in goals:
        return goals[name]
    own = getattr(getattr(metric, "metric", metric), "higher_is_better", None)
    if isinstance(own, bool):
        return own
    words = set(name.lower().split("_"))
    known = bool(words & MORE), bool(words & LESS)
    return known[0] if known[0] != known[1] and not words & {"neg", "negative"} else None
