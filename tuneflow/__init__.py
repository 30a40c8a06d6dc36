"""tuneflow: tuning for deep learning that owns the model and the training."""

import logging as _logging

from tuneflow import compress, data, errors, harden, measure, metrics, nn, optim, plot, schedule, seeds, types
from tuneflow.data.data import Data
from tuneflow.history.trial import Trial
from tuneflow.model import Model
from tuneflow.probing.measuring import probe
from tuneflow.probing.probe import Probe
from tuneflow.runtime.ray_runtime import RayRuntime
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.full import Full
from tuneflow.schedule.halving import Halving
from tuneflow.schedule.hyperband import Hyperband
from tuneflow.schedule.median import Median
from tuneflow.schedule.population import Population
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.auto import Auto
from tuneflow.search.evolution.cmaes import CMAES
from tuneflow.search.evolution.nsga2 import NSGA2
from tuneflow.search.evolution.regularized import Evolution
from tuneflow.search.gp.gp import GP
from tuneflow.search.grid import Grid
from tuneflow.search.lecun import LeCun
from tuneflow.search.random import Random
from tuneflow.search.searcher import Searcher
from tuneflow.search.sobol import Sobol
from tuneflow.search.tpe import TPE
from tuneflow.search.warm import Warm
from tuneflow.space.parameters import Choice, Constant, Float, Int
from tuneflow.space.permutation import Permutation
from tuneflow.space.priors import Normal
from tuneflow.space.search_space import SearchSpace, call
from tuneflow.store.folder import Folder
from tuneflow.study.archive import Archive as open  # noqa: N813 (it opens a folder)
from tuneflow.study.minimize import maximize, minimize
from tuneflow.study.result import Result
from tuneflow.study.saved_model import load
from tuneflow.study.study import Study
from tuneflow.study.within import within
from tuneflow.train import rates
from tuneflow.train.loop import loop
from tuneflow.train.patience import Patience
from tuneflow.train.trainer import Trainer
from tuneflow.version import __version__

_logging.getLogger("tuneflow").addHandler(_logging.NullHandler())
_logging.getLogger("tuneflow").addFilter(errors.with_printable_text)

__all__ = [
    "Auto",
    "CMAES",
    "Choice",
    "Constant",
    "Data",
    "Evolution",
    "Float",
    "Folder",
    "Full",
    "GP",
    "Grid",
    "Halving",
    "Hyperband",
    "Int",
    "LeCun",
    "Median",
    "Model",
    "NSGA2",
    "Normal",
    "Patience",
    "Permutation",
    "Population",
    "Probe",
    "Random",
    "RayRuntime",
    "Result",
    "Runtime",
    "Scheduler",
    "SearchSpace",
    "Searcher",
    "Sobol",
    "Study",
    "TPE",
    "Trainer",
    "Trial",
    "Warm",
    "__version__",
    "call",
    "compress",
    "data",
    "errors",
    "harden",
    "load",
    "loop",
    "maximize",
    "measure",
    "metrics",
    "minimize",
    "nn",
    "open",
    "optim",
    "plot",
    "probe",
    "rates",
    "schedule",
    "seeds",
    "types",
    "within",
]


def __dir__() -> list[str]:
    return __all__
