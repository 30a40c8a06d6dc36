"""Measurements and initializations of modules: pure functions of modules, losses and batches."""

from tuneflow.heuristics.curvature import Curvature, adam_rate, adam_scale, curvature, sgd_rate
from tuneflow.heuristics.health import Health, health
from tuneflow.heuristics.initialization_record import Initialized
from tuneflow.heuristics.initialize import initialize
from tuneflow.heuristics.noise import Noise, gradient_noise
from tuneflow.heuristics.range_test import Suggestions, suggestions, sweep
from tuneflow.heuristics.schemes import gain
from tuneflow.heuristics.spectrum import HessianSpectrum, spectrum

__all__ = [
    "Curvature",
    "Health",
    "HessianSpectrum",
    "Initialized",
    "Noise",
    "Suggestions",
    "adam_rate",
    "adam_scale",
    "curvature",
    "gain",
    "gradient_noise",
    "health",
    "initialize",
    "sgd_rate",
    "spectrum",
    "suggestions",
    "sweep",
]
