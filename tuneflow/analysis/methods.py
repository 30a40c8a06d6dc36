"""Comparison of studies: their best scores so far, method by method, paired by seed."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from tuneflow.analysis.best_so_far import BestSoFar, Unit, best_so_far
from tuneflow.analysis.record import StudyRecord
from tuneflow.space.coordinates import Array

UNITS: tuple[Unit, ...] = ("trials", "epochs", "seconds")
APART = ("seed", "weights that the builder brings")  # settings that may differ within a method
TOLD = ("searcher", "scheduler", "model")  # settings by which methods are named
MOST = 200  # points of a line
LONGEST = 60  # letters of a name


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
        whole = ~np.isnan(scores).any(axis=0)
        return MeanLine(grid[whole], *_mean(scores[:, whole]))

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
        seeds: number of seeds that both have, by which they are paired; 0 where they share none.
    """

    value: float
    error: float
    seeds: int


def methods_of(records: Sequence[StudyRecord]) -> list[Method]:
    """Return the studies by method, in the order in which they are given.

    Raises:
        ValueError: they have several objectives, or not the same one.
    """
    _check(records)
    groups: dict[str, list[StudyRecord]] = defaultdict(list)
    for record in records:
        groups[_key(record)].append(record)
    names = _names([group[0] for group in groups.values()])
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
        return Difference(float(pairs.mean()), float(pairs.std(ddof=1)) / math.sqrt(len(pairs)), len(shared))
    (first, error), (second, second_error) = method.mean_at(unit, budget), other.mean_at(unit, budget)
    return Difference(first - second, math.hypot(error, second_error), len(shared))


def _best_at(line: BestSoFar, budgets: Array) -> Array:
    """Return the best score within each budget; NaN before the first one."""
    places = np.searchsorted(line.spent, budgets * (1 + 1e-12), side="right") - 1
    padded = np.append(line.best, np.nan)  # which index -1 takes
    return np.asarray(padded[places])


def _mean(scores: Array) -> tuple[Array, Array]:
    """Return the means over the first axis, and their standard errors; NaN with a single row."""
    count = len(scores)
    errors = scores.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full(scores.shape[1], np.nan)
    return scores.mean(axis=0), errors


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


def _names(records: Sequence[StudyRecord]) -> list[str]:
    """Return a name for each method: the settings that differ, or the study's name where these do not tell."""
    flat = [dict(_flat(record.facts)) for record in records]
    settings = [name for name in dict.fromkeys(chain(*flat)) if name.split(".")[0] not in (*APART, "grid")]
    differing = [name for name in settings if len({facts.get(name) for facts in flat}) > 1]
    words = [", ".join(_word(name, facts.get(name)) for name in differing) for facts in flat]
    plain = all(0 < len(word) <= LONGEST for word in words) and len(set(words)) == len(words)
    return words if plain else _told_apart([record.name for record in records])


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Yield settings by dotted names, as text."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)


def _word(name: str, value: str | None) -> str:
    return str(value) if name in TOLD else f"{name.rsplit('.', 1)[-1].replace('_', ' ')} {value}"


def _told_apart(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
