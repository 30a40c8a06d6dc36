"""Functions whose importances are known, for tests/benchmarks/importance.py, of points of a space's unit cube."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

import tuneflow as tn
from tuneflow.analysis.score_scale import FAR
from tuneflow.space.coordinates import Array, Coordinates

POINTS = 40_000  # of the cube, for the truth


@dataclass(frozen=True)
class KnownFunction:
    """A function of the unit cube of a space; lower is better, inf where training diverges."""

    name: str
    space: tn.SearchSpace
    costs: Callable[[Array], Array]

    @cached_property
    def points(self) -> Array:
        return np.random.default_rng(1).random((POINTS, len(self.space)))

    @cached_property
    def limit(self) -> float:
        """The cost beyond which all counts the same: FAR spreads of the better half beyond the median."""
        costs = self.of(self.points)
        middle = np.median(costs)
        return float(middle + FAR * np.sqrt(np.square(costs[costs <= middle] - middle).mean()))

    @cached_property
    def spread(self) -> float:
        return float(np.minimum(self.of(self.points), self.limit).std())

    @cached_property
    def total_effects(self) -> Array:
        """Share of the variance that is lost when one parameter is fixed; the sum counts interplay several times."""
        costs, shares = self._bounded(self.points), []
        for place in range(len(self.space)):
            changed = self.points.copy()
            changed[:, place] = np.random.default_rng(2 + place).random(POINTS)
            shares.append(np.square(costs - self._bounded(changed)).mean() / 2 / costs.var())
        return np.array(shares)

    @cached_property
    def main_effects(self) -> Array:
        """Share of the variance that one parameter explains alone, from means within a hundred bins of each."""
        costs, shares = self._bounded(self.points), []
        for column in self.points.T:
            bins = np.floor(100 * column).astype(int)
            means = np.bincount(bins, costs, 100) / np.bincount(bins, minlength=100)
            shares.append(np.average(np.square(means - costs.mean()), weights=np.bincount(bins, minlength=100)))
        return np.maximum(0.0, np.array(shares) / costs.var() - 100 / POINTS)

    def of(self, units: Array) -> Array:
        return self.costs(Coordinates(self.space).settled(units))

    def _bounded(self, units: Array) -> Array:
        return np.minimum(self.of(units), self.limit)


def floats(count: int) -> tn.SearchSpace:
    return tn.SearchSpace(**{f"x{place}": tn.Float(0.0, 1.0) for place in range(count)})


def ishigami(u):
    """Total effects 0.56, 0.44, 0.24; main effects 0.31, 0.44, 0."""
    x = (2 * u.T - 1) * math.pi
    return np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0])


def sobol_g(u):
    """Total effects 0.79, 0.24, 0.03, 0.01 and twice 0 before far costs are bounded."""
    a = np.array([0, 1, 4.5, 9, 99, 99])
    return np.prod((np.abs(4 * u - 2) + a) / (1 + a), axis=1)


def valley(u):
    """A bowl in the learning rate's logarithm, and what width and dropout do beside it; two parameters are inert."""
    return 12 * (u[:, 0] - 0.7) ** 2 - 2 * u[:, 1] + np.abs(u[:, 2] - 0.3)


def pair(u):
    return 8 * (u[:, 0] - 0.5) * (u[:, 1] - 0.5) + 2 * u[:, 0] + 1.5 * u[:, 2] + 0.2 * u[:, 3]


def cliff(u):
    """Slow where the effective learning rate is small, divergent where it is large."""
    rate = -4 + 4 * u[:, 0] - np.log10(1 - 0.99 * u[:, 1])
    error = 0.05 + 0.05 * np.maximum(-1.3 - rate, 0) ** 1.5 + 0.12 * (u[:, 2] - 0.5) ** 2 + 0.01 * u[:, 3]
    return np.where(rate > 0.2, np.inf, error)


def steps(u):
    """Levels and thresholds, as a tree has them."""
    levels = np.array([0.8, 0.5, 0.1, 0.3, 0.6])[np.minimum((5 * u[:, 0]).astype(int), 4)]
    return levels + (u[:, 1] > 0.6) * (1 + 0.8 * (u[:, 0] > 0.6)) + 0.4 * np.floor(3 * u[:, 2])


def branches(u):
    """What one optimizer does is decided by its own learning rate, the other one's hardly matters."""
    sgd = np.square(np.nan_to_num(u[:, 1], nan=0.5) - 0.6) * 8
    adam = 0.5 + 0.3 * np.nan_to_num(u[:, 3], nan=0.5)
    return np.where(u[:, 0] < 0.5, sgd, adam) + 0.4 * u[:, 4]


TUNED = tn.SearchSpace(
    optimizer={"lr": tn.Float(1e-4, 1.0, log=True)},
    model={"width": tn.Int(8, 256, log=True), "dropout": tn.Float(0.0, 0.5)},
    trainer={"batch_size": tn.Choice([16, 32, 64, 128], ordered=True), "clip": tn.Float(0.1, 10.0, log=True)},
)
LABELED = tn.SearchSpace(
    act=tn.Choice(["relu", "gelu", "tanh", "silu", "elu"]),
    **{f"x{place}": tn.Float(0.0, 1.0) for place in range(1, 5)},
)
CONDITIONAL = tn.SearchSpace(
    optimizer=tn.Choice({
        "sgd": tn.call(dict, lr=tn.Float(1e-4, 1.0, log=True), momentum=tn.Float(0.0, 0.99)),
        "adam": tn.call(dict, lr=tn.Float(1e-5, 0.1, log=True)),
    }),
    width=tn.Float(0.0, 1.0),
    dropout=tn.Float(0.0, 0.5),
)  # fmt: skip

FUNCTIONS: Mapping[str, KnownFunction] = {
    function.name: function
    for function in (
        KnownFunction("ishigami", floats(3), ishigami),
        KnownFunction("g", floats(6), sobol_g),
        KnownFunction("valley", TUNED, valley),
        KnownFunction("pair", floats(5), pair),
        KnownFunction("cliff", floats(6), cliff),
        KnownFunction("steps", LABELED, steps),
        KnownFunction("branches", CONDITIONAL, branches),
    )
}
