"""Comparison of studies: their best scores so far, method by method, paired by seed."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuneflow.analysis.best_so_far import BestSoFar, Unit, best_so_far
from tuneflow.analysis.method_names import APART, method_names
from tuneflow.analysis.record import StudyRecord
from tuneflow.metrics.measured import Estimate, places_of
from tuneflow.search.normal import student_quantile
from tuneflow.space.coordinates import Array

UNITS: tuple[Unit, ...] = ("trials", "epochs", "seconds")
MOST = 200  # points of a line


@dataclass(frozen=True)
class Method:
    """Studies that differ in nothing but their seed.

    Attributes:
        name: the settings by which it differs from the other methods.
        records: the studies.
    """

    name: str
    records: tuple[StudyRecord, ...]

    @cached_property
    def _lines(self) -> dict[Unit, list[BestSoFar]]:
        return {unit: [best_so_far(record, unit) for record in self.records] for unit in UNITS}

    def spent(self, unit: Unit) -> float:
        """Return what every one of its studies has spent at least."""
        return min((float(line.spent[-1]) if len(line.spent) else 0.0 for line in self._lines[unit]), default=0.0)

    def line(self, unit: Unit) -> "MeanLine":
        """Return the mean over its studies, from where each has a score to where the first one ends."""
        lines, end = self._lines[unit], self.spent(unit)
        every = np.unique(np.concatenate([line.spent for line in lines])) if lines else np.empty(0)
        grid = every[every <= end]
        if len(grid) > MOST:
            grid = grid[np.linspace(0, len(grid) - 1, MOST).astype(int)]
        scores = np.array([_best_at(line, grid) for line in lines])
        means, errors = _mean(scores)
        known = np.isfinite(means)
        return MeanLine(grid[known], means[known], errors[known])

    def scores_at(self, unit: Unit, budget: float) -> dict[int, list[float]]:
        """Return the best scores within a budget by seed; NaN where there was none yet."""
        scores: dict[int, list[float]] = defaultdict(list)
        for record, line in zip(self.records, self._lines[unit], strict=True):
            scores[record.history.seed].append(float(_best_at(line, np.array([budget]))[0]))
        return dict(scores)

    def mean_at(self, unit: Unit, budget: float) -> tuple[float, float]:
        """Return the mean of the best scores within a budget, and its standard error, NaN with a single study."""
        scores = np.array([score for same in self.scores_at(unit, budget).values() for score in same])
        mean, error = _mean(scores[:, None])
        return float(mean[0]), float(error[0])


@dataclass(frozen=True)
class MeanLine:
    """The mean of several lines of the best score so far.

    Attributes:
        spent: number of trials, epochs or seconds, shape (n,).
        mean: shape (n,).
        error: standard error of the mean over the studies, shape (n,); NaN with a single one.
    """

    spent: Array
    mean: Array
    error: Array


@dataclass(frozen=True)
class Difference:
    """The best score of a method minus that of another one, at the same budget.

    Attributes:
        value: NaN where one has no score.
        error: its standard error; NaN where it is not known.
        freedom: degrees of freedom of the error: one less than the pairs, or as Welch has it.
        seeds: number of seeds that both have, by which they are paired; 0 where they share none.
    """

    value: float
    error: float
    freedom: float
    seeds: int

    @property
    def estimate(self) -> Estimate:
        """The difference with its 95 % interval by Student's t.

        Without an error, the interval has no ends; one of 0 is none, as a few equal differences may be chance.
        """
        reach = student_quantile(0.975, self.freedom) * self.error if self.error > 0 else math.nan
        if not math.isfinite(self.value + reach):
            return Estimate(self.value, math.nan, math.nan, 0)
        return Estimate(self.value, self.value - reach, self.value + reach, 0)

    def verdict(self, maximize: bool) -> str:
        """Return what the interval says as it is shown: better, worse or no clear difference; empty without one."""
        estimate = self.estimate
        if math.isnan(estimate.low):
            return ""
        low, high = (round(end, places_of((estimate.high - estimate.low) / 4)) for end in (estimate.low, estimate.high))
        if low <= 0 <= high:
            return "no clear difference"
        return "better" if (low > 0) == maximize else "worse"


def methods_of(records: Sequence[StudyRecord]) -> list[Method]:
    """Return the studies by method, in the order in which they are given.

    Raises:
        ValueError: they have several objectives, or not the same one.
    """
    _check(records)
    groups: dict[str, list[StudyRecord]] = defaultdict(list)
    for record in records:
        groups[_key(record)].append(record)
    names = method_names(list(groups.values()))
    return [Method(name, tuple(group)) for name, group in zip(names, groups.values(), strict=True)]


def units_of(methods: Sequence[Method]) -> list[Unit]:
    """Return the units of cost that tell something: not epochs where every trial is one, no seconds where none are."""
    ends = {unit: [method.spent(unit) for method in methods] for unit in UNITS}
    left_out = [ends["epochs"] == ends["trials"], not any(ends["seconds"])]
    return [unit for unit, out in zip(UNITS, [False, *left_out], strict=True) if not out]


def common_budget(methods: Iterable[Method], unit: Unit) -> float:
    """Return what every study has spent at least, in trials, epochs or seconds; those with nothing yet left out."""
    return min((spent for method in methods if (spent := method.spent(unit))), default=0.0)


def difference(method: Method, other: Method, unit: Unit, budget: float) -> Difference:
    """Return the difference of two methods at a budget, paired by the seeds that both have.

    With two shared seeds or more its error is that of the mean over the pairs. With one, or none, it is that of two
    independent means over their seeds, which a method with a single study does not have.
    """
    own, others = method.scores_at(unit, budget), other.scores_at(unit, budget)
    shared = [seed for seed in own if seed in others]
    if len(shared) > 1:
        pairs = np.array([np.mean(own[seed]) - np.mean(others[seed]) for seed in shared])
        mean, spread = _mean(pairs[:, None])
        return Difference(float(mean[0]), float(spread[0]), len(pairs) - 1, len(shared))
    (first, error), (second, second_error) = method.mean_at(unit, budget), other.mean_at(unit, budget)
    return Difference(
        first - second, *_of_means(error, len(method.records), second_error, len(other.records)), len(shared)
    )


def leader_of(methods: Sequence[Method], unit: Unit, budget: float) -> Method | None:
    """Return the method with the best mean at a budget; None where none has a score."""
    maximize = methods[0].records[0].objective.maximize
    means = {place: method.mean_at(unit, budget)[0] for place, method in enumerate(methods)}
    scored = {place: mean if maximize else -mean for place, mean in means.items() if math.isfinite(mean)}
    return methods[max(scored, key=lambda place: scored[place])] if scored else None


def _of_means(error: float, count: int, other: float, others: int) -> tuple[float, float]:
    """Return the standard error of a difference of two independent means, and its degrees of freedom.

    Source: Welch, Biometrika 34, 1947.
    """
    both = math.hypot(error, other)
    if not both > 0:
        return both, math.nan
    shares = (error / both) ** 4 / max(1, count - 1) + (other / both) ** 4 / max(1, others - 1)
    return both, 1 / shares


def _best_at(line: BestSoFar, budgets: Array) -> Array:
    """Return the best score within each budget; NaN before the first one."""
    places = np.searchsorted(line.spent, budgets * (1 + 1e-12), side="right") - 1
    padded = np.append(line.best, np.nan)  # which index -1 takes
    return np.asarray(padded[places])


def _mean(scores: Array) -> tuple[Array, Array]:
    """Return the means over the first axis, and their standard errors; NaN with a single row, or for huge scores."""
    count = len(scores)
    with np.errstate(over="ignore", invalid="ignore"):
        means = scores.mean(axis=0)
        errors = scores.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full(scores.shape[1], np.nan)
    return means, np.where(np.isfinite(errors), errors, np.nan)


def _check(records: Sequence[StudyRecord]) -> None:
    first = records[0]
    for record in records:
        if record.objective.several:
            raise ValueError(
                f"studies are compared by one objective, got {_goals(record)} of {record.name}; compare the fronts in a"
                " report each."
            )
        if record.objective.goals != first.objective.goals or record.objective.limits != first.objective.limits:
            raise ValueError(
                f"studies that are compared need the same objective and limits, got {_goals(first)} of {first.name} and"
                f" {_goals(record)} of {record.name}."
            )


def _goals(record: StudyRecord) -> str:
    goals = (f"{'maximize' if up else 'minimize'}={metric!r}" for metric, up in record.objective.goals)
    return " and ".join([*goals, *map(str, record.objective.limits)])


def _key(record: StudyRecord) -> str:
    facts = {name: value for name, value in record.facts.items() if name not in APART}
    return json.dumps(facts, sort_keys=True, default=str)
