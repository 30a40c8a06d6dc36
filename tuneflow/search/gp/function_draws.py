"""Functions drawn from a Gaussian process, at any number of points."""

import numpy as np

from tuneflow.search.gp.gaussian_process import LEVEL, GaussianProcess
from tuneflow.search.gp.kernel import between, matern
from tuneflow.space.coordinates import Array

WAVES = 256  # cosines that a drawn function is made of
SMOOTHNESS = 5  # degrees of freedom: the spectral density of Matern-5/2 is a Student t


def drawn_functions(process: GaussianProcess, features: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw functions from a process conditioned on its scores, without noise, at points of shape (m, f): (m, count).

    Each is a function of the prior, a sum of random cosines, plus the update that makes it fit the scores. So the cost
    grows with the number of points, not with its cube.

    Source: Rahimi, Recht, Random features for large-scale kernel machines, NIPS 2007; Wilson et al., Efficiently
    sampling functions from Gaussian process posteriors, ICML 2020.
    """
    width, scaled = process.features.shape[1], features * process.scale
    waves = rng.standard_normal((width, WAVES)) / np.sqrt(rng.chisquare(SMOOTHNESS, WAVES) / SMOOTHNESS)
    phases, height = rng.random(WAVES) * 2 * np.pi, np.sqrt(2 * process.variance / WAVES)
    weights, level = height * rng.standard_normal((WAVES, count)), np.sqrt(LEVEL) * rng.standard_normal(count)
    here = np.cos(scaled @ waves + phases) @ weights + level
    there = np.cos(process.scaled @ waves + phases) @ weights + level
    noise = np.sqrt(process.noise / process.counts + process.variances) * np.ones(len(there))
    missing = process.values[:, None] - there - noise[:, None] * rng.standard_normal(there.shape)
    cross = process.variance * matern(between(scaled, process.scaled))[0] + LEVEL
    return np.asarray(here + cross @ (process.whiten.T @ (process.whiten @ missing)))
