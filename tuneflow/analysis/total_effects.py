"""Total effects: the share of a function's variance over the search space that is lost when a parameter is fixed."""

import numpy as np

from tuneflow.analysis.score_scale import FAR
from tuneflow.analysis.surrogate import Surrogate
from tuneflow.search.gp.features import FeatureMap
from tuneflow.search.sobol import sobol_points
from tuneflow.space.coordinates import Array

RESAMPLES = 16  # samples of the trials
FUNCTIONS = 4  # drawn for each
EVALUATIONS = 1_024  # of each function, about
FEWEST = 16  # points of which one parameter after the other is changed


def total_effects(surrogate: Surrogate, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw the total effects of all parameters, shape (draws, p), and the parameters' part of the scores' variance.

        T_j = E[(f(x) - f(x with another value of parameter j))^2] / (2 Var f),   x uniform over the unit cube

    of functions f that fit the scores, each of a Gaussian process that is conditioned on a sample of the trials. A
    parameter that is not active changes nothing. Costs count up to FAR spreads of the better half beyond their median.

    Source: Homma, Saltelli, Importance measures in global sensitivity analysis of nonlinear models, Reliability
    Engineering & System Safety, 1996; the estimator: Jansen, 1999; of a process's draws: Le Gratiet, Cannamela, Iooss,
    SIAM/ASA Journal on Uncertainty Quantification, 2014.
    """
    from tuneflow.search.gp.function_draws import drawn_functions

    layout = surrogate.layout
    parameters = len(layout.space.parameters)
    count = max(FEWEST, 1 << int(np.log2(EVALUATIONS / (parameters + 1))))
    points = sobol_points(count, 2 * len(layout.space), 0)
    effects, parts = [], []
    for process in surrogate.resampled(RESAMPLES, rng):
        features = layout.features(_changed(layout, (points + rng.random(points.shape[1])) % 1.0))
        values = drawn_functions(process, features, FUNCTIONS, rng)
        parts.append(values.var(0) / (values.var(0) + process.noise))
        effects.append(_effects(_bounded(surrogate.scale.distances(values)).reshape(parameters + 1, count, FUNCTIONS)))
    return np.concatenate(effects), np.concatenate(parts)


def _changed(layout: FeatureMap, pairs: Array) -> Array:
    """Return points, and the same points with another value of one parameter after the other, shape ((p + 1) m, d).

    Args:
        layout: of the space.
        pairs: shape (m, 2 d), a point and the values that its coordinates change to.
    """
    here, there = np.split(pairs, 2, axis=1)
    blocks = [here]
    for first in layout.space.parameters.values():
        own = slice(first, first + layout.space.coordinates[first].whole.width)
        block = here.copy()
        block[:, own] = there[:, own]
        blocks.append(block)
    return layout.settled(np.concatenate(blocks))


def _bounded(costs: Array) -> Array:
    """Return the costs of each column, at most FAR spreads of its better half beyond its median."""
    middle = np.median(costs, axis=0)
    better = np.minimum(costs - middle, 0.0)
    spread = np.sqrt(2 * np.square(better).mean(0))
    return np.asarray(np.minimum(costs, middle + FAR * spread))


def _effects(values: Array) -> Array:
    """Return the total effects of p parameters, shape (n, p), from values of n functions, shape (p + 1, m, n)."""
    variance = values.reshape(-1, values.shape[-1]).var(0)
    changes = np.square(values[1:] - values[0]).mean(1) / 2
    return np.asarray(np.minimum(1.0, changes / np.maximum(variance, 1e-300)).T)
