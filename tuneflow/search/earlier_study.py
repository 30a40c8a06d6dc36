"""Earlier studies: the trials kept of them, and their place in another space."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneflow.history.history import History
from tuneflow.history.pareto import ranking
from tuneflow.seeds import digest
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.parameters import Float, Int, Parameter, Value
from tuneflow.space.permutation import Permutation
from tuneflow.space.search_space import Config, SearchSpace

MOST = 500  # trials that are kept, spread evenly over the ranks
NEAR = 5  # the rank of a point is the mean of so many neighbors'
TOP = 0.2  # the share of trials that are worth trying again
APART = 0.2  # how far two of those differ in one number at least, in sides of the cube


@dataclass(frozen=True)
class EarlierStudy:
    """The ended trials of an earlier study, the best one first.

    Attributes:
        rows: their values by dotted name, active parameters only.
        ranks: shape (n,), the share of trials that are better, from 0 to 1.
    """

    rows: tuple[Mapping[str, Value], ...]
    ranks: Array

    @classmethod
    def of(cls, source: Any) -> "EarlierStudy":
        """Copy the trials of a Study, an Archive or a History.

        Raises:
            TypeError: it is none of these.
            ValueError: no trial of it has a score.
        """
        history = getattr(source, "history", source)
        if not isinstance(history, History):
            raise TypeError(f"Warm: needs a Study, a History or what tn.open gives, or a list of them, got {source!r}.")
        numbers = np.array([trial.number for trial in history.observed], dtype=np.intp)
        if not len(numbers) or not np.isfinite(history.comparable_costs[numbers]).any():
            raise ValueError(f"Warm: no trial of {source!r} has a score to learn from; leave it out.")
        order = numbers[ranking(history.comparable_costs[numbers])]
        kept = np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST)).astype(int))
        rows = (history.space.values_at(history.units[number]) for number in order[kept])
        return cls(tuple(rows), kept / len(order))

    def __repr__(self) -> str:
        known = digest(json.dumps([[*map(dict, self.rows)], self.ranks.tolist()], sort_keys=True))
        return f"{len(self.rows)} trials {known & 0xFFFFFFFF:08x}"


class MappedStudy:
    """An earlier study in another space, matched by the names that both have.

    Numbers out of range are clipped, parameters that the earlier study lacks are unknown, and trials with a label that
    the space lacks are left out.

    Attributes:
        units: shape (n, d), NaN where unknown or not active; the best trial first.
        starts: a few of the best configurations, distinct from each other, the best one first; unknown parameters are
            in the middle of their priors.
    """

    def __init__(self, past: EarlierStudy, space: SearchSpace, starts: int) -> None:
        self._axes, self._space = Coordinates(space), space
        mapped = [
            (rank, place) for row, rank in zip(past.rows, past.ranks, strict=True) if (place := _placed(row, space))
        ]
        self._ranks = np.array([rank for rank, _ in mapped])
        self.units = np.array([unit for _, (unit, _) in mapped]).reshape(len(mapped), len(space))
        self.starts = self._starts([config for _, (_, config) in mapped], starts)

    def __len__(self) -> int:
        return len(self.units)

    def top(self, most: int) -> Array:
        """Return the best fifth of the trials, at most `most`: shape (k, d)."""
        return self.units[: min(max(1, int((self._ranks < TOP).sum())), most)]

    def rank(self, unit: Array) -> float:
        """Predict the rank of a point in the earlier study, from 0 for the best to 1, by its nearest trials."""
        apart = np.nan_to_num(np.abs(self.units - unit), nan=0.0)
        apart[:, self._axes.labels] = np.where(apart[:, self._axes.labels] > 1e-9, np.sqrt(0.5), 0.0)
        near = np.argsort(np.square(apart).sum(1), kind="stable")[:NEAR]
        return float(self._ranks[near].mean())

    def _starts(self, configs: list[Config], most: int) -> list[Config]:
        chosen: list[int] = []
        for place, config in enumerate(configs):
            if len(chosen) == most or (chosen and self._ranks[place] > TOP):
                break
            if self._space.allows(config) and all(self._differ(place, other) for other in chosen):
                chosen.append(place)
        return [configs[place] for place in chosen]

    def _differ(self, one: int, other: int) -> bool:
        apart = np.nan_to_num(np.abs(self.units[one] - self.units[other]), nan=0.0)
        return bool((apart >= np.where(self._axes.labels, 1e-9, APART)).any())


def _placed(row: Mapping[str, Value], space: SearchSpace) -> tuple[Array, Config] | None:
    """Return a trial's point and configuration in `space`; None where it has a label that the space lacks."""
    unit = space.quantile(np.full(len(space), 0.5))
    known = np.array([".".join(axis.path) in row for axis in space.coordinates], dtype=bool)
    for name, place in space.parameters.items():
        if known[place]:
            whole = space.coordinates[place].whole
            found = _units(whole, row[name])
            if found is None:
                return None
            unit[place : place + whole.width] = found
    config = space.from_unit(unit)
    return np.where(known, space.to_unit(config), np.nan), config


def _units(parameter: Parameter, value: Any) -> list[float] | None:
    if isinstance(parameter, Float | Int):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        value = min(max(value, parameter.low), parameter.high)
        return parameter.to_units(round(value) if isinstance(parameter, Int) else value)
    try:
        value = parameter.nearest(value) if isinstance(parameter, Permutation) else parameter.cast(value)
        return parameter.to_units(value)
    except ValueError:
        return None
