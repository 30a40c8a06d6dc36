"""Other tuners for tests/benchmarks/search.py, asked and told by the coordinates of a problem's space.

Each sees integers, floats (logs as logs) and categories as its own kinds of these, and is left at its defaults. A
package is imported where a tuner is made: `pip install optuna ax-platform`. HEBO 0.3.6 asks for numpy < 1.25, which the
others do not go with; it runs with numpy 2 too: `pip install --no-deps HEBO pymoo==0.6.0`, then what its imports miss.
"""

import contextlib
import importlib
import io
import logging
import random
import warnings
from typing import Any

import numpy as np
import torch
from search_problems import Problem

from tuneflow.space.parameters import Choice, Int


class Optuna:
    """A sampler of Optuna, by name; conditional spaces as its own."""

    def __init__(self, sampler: str, problem: Problem, seed: int, **options: Any):
        optuna = needed("optuna", "optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space = problem.space
        self.study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed, **options))

    def ask(self, count):
        return [self._asked(self.study.ask()) for _ in range(count)]

    def _asked(self, trial):
        unit = np.full(len(self.space), np.nan)
        for place, axis in enumerate(self.space.coordinates):
            if all(self._label(unit, parent) == label for parent, label in axis.needs):
                unit[place] = axis.parameter.to_unit(self._value(trial, axis))
        return trial, self.space.cast(self.space.from_unit(unit))

    def _label(self, unit, parent):
        return None if np.isnan(unit[parent]) else self.space.coordinates[parent].parameter.from_unit(unit[parent])

    def _value(self, trial, axis):
        parameter = axis.parameter
        if isinstance(parameter, Choice):
            return trial.suggest_categorical(axis.name, parameter.values)
        suggest = trial.suggest_int if isinstance(parameter, Int) else trial.suggest_float
        return suggest(axis.name, parameter.low, parameter.high, log=parameter.log)

    def tell(self, trial, cost, error):
        self.study.tell(trial, cost)


class Hebo:
    """HEBO as it comes: a GP of outputs by Yeo-Johnson or Box-Cox, MACE by NSGA-II; a batch is its own batch.

    It draws from the global generators of NumPy, torch and Python, which are seeded here: one run at a time.
    Conditional spaces are refused.
    """

    def __init__(self, problem: Problem, seed: int):
        made = needed("hebo.optimizers.hebo", "HEBO")
        self.space = flat("hebo", problem)
        design = needed("hebo.design_space.design_space", "HEBO").DesignSpace()
        self.tuner = made.HEBO(design.parse([self._entry(axis) for axis in self.space.coordinates]), scramble_seed=seed)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)

    def _entry(self, axis):
        parameter = axis.parameter
        if isinstance(parameter, Choice):
            return {"name": axis.name, "type": "cat", "categories": _labels(parameter)}
        kinds = {(True, False): "int", (True, True): "pow_int", (False, False): "num", (False, True): "pow"}
        kind = kinds[isinstance(parameter, Int), parameter.log]
        return {"name": axis.name, "type": kind, "lb": parameter.low, "ub": parameter.high, "base": 10}

    def ask(self, count):
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints each jitter it tries
            warnings.simplefilter("ignore")
            rows = self.tuner.suggest(n_suggestions=count)
        return [(rows.iloc[[i]], config_of(self.space, rows.iloc[i].to_dict())) for i in range(count)]

    def tell(self, row, cost, error):
        self.tuner.observe_new_data(row, np.array([[cost]]))


class Ax:
    """Ax's Client and its default strategy: the center, Sobol, then BoTorch; conditional spaces are refused."""

    def __init__(self, problem: Problem, seed: int):
        logging.disable(logging.WARNING)  # it tells of each step
        self.configs, self.space = needed("ax.api.configs", "ax-platform"), flat("ax", problem)
        self.client = needed("ax.api.client", "ax-platform").Client(random_seed=seed)
        self.client.configure_experiment(parameters=[self._entry(axis) for axis in self.space.coordinates])
        self.client.configure_optimization(objective="-cost")

    def _entry(self, axis):
        parameter = axis.parameter
        if isinstance(parameter, Choice):
            labels = _labels(parameter)
            return self.configs.ChoiceParameterConfig(
                name=axis.name, values=labels, parameter_type="str", is_ordered=False
            )
        return self.configs.RangeParameterConfig(
            name=axis.name,
            bounds=(parameter.low, parameter.high),
            parameter_type="int" if isinstance(parameter, Int) else "float",
            scaling="log" if parameter.log else "linear",
        )

    def ask(self, count):
        asked = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while len(asked) < count:  # it may give fewer than it is asked for
                asked |= self.client.get_next_trials(max_trials=count - len(asked))
        return [(number, config_of(self.space, values)) for number, values in asked.items()]

    def tell(self, number, cost, error):
        self.client.complete_trial(number, raw_data={"cost": cost if error is None else (cost, error)})


PEERS = {
    "optuna tpe": lambda problem, seed: Optuna("TPESampler", problem, seed),
    "optuna tpe multivariate": lambda problem, seed: Optuna("TPESampler", problem, seed, multivariate=True),
    "optuna gp": lambda problem, seed: Optuna("GPSampler", problem, seed),
    "hebo": Hebo,
    "ax": Ax,
}


def needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise SystemExit(f"{module} is needed and not there ({missing}): pip install {package}") from missing


def flat(name: str, problem: Problem) -> Any:
    """The space of `problem`, where nothing depends on a choice."""
    if any(axis.needs for axis in problem.space.coordinates):
        raise SystemExit(
            f"{name} searches no conditional spaces, and {problem.name!r} is one; choose others by --problems."
        )
    return problem.space


def config_of(space: Any, values: dict[str, Any]) -> Any:
    """The configuration of a flat space that has these values on its coordinates, of a Choice its labels here."""
    unit = [axis.parameter.to_unit(_plain(axis.parameter, values[axis.name])) for axis in space.coordinates]
    return space.cast(space.from_unit(np.clip(unit, 0, 1)))  # a power of ten may end beyond its bound by rounding


def _labels(parameter: Choice) -> list[str]:
    """A text for each value, whatever its type."""
    return [str(place) for place in range(len(parameter.values))]


def _plain(parameter: Any, value: Any) -> Any:
    if isinstance(parameter, Choice):
        return parameter.values[int(value)]
    return int(value) if isinstance(parameter, Int) else float(value)
