"""A Gaussian process over few points: hyper-parameters, fitted and sampled, and its predictions."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from tuneflow.search.gp.kernel import between, matern
from tuneflow.space.coordinates import Array

# Hyper-parameters are logarithms: of a length scale for each parameter, of the variance of the scores, and of the
# noise that no standard error tells of. Their priors are normal, and independent.
LENGTH = 0.5  # median length scale, in sides of the cube and square roots of its dimension
LENGTH_SD = 1.0
VARIANCE, VARIANCE_SD = 1.0, 1.0
# The noise has a low median, or the best of exact scores is taken for luck: with 1e-2 the geometric mean of the regret
# on tables is a fifth higher.
NOISE, NOISE_SD = 1e-3, 1.5
LEVEL = 1.0  # variance of the scores' common level
LOWEST, HIGHEST = np.log(1e-6), np.log(1e3)
JITTER = 1e-8


class Posterior:
    """The posterior of the hyper-parameters, given scores at known points.

        K = s^2 matern(r) + LEVEL + diag(noise / counts + errors^2),   r^2 = sum_j apart_j / length_j^2

    Args:
        apart: shape (d, n * n), squared distances for each of d length scales, from `kernel.apart`.
        values: shape (n,), the scores.
        variances: shape (n,), known variances of their errors.
        counts: shape (n,), number of trainings that each is the mean of.
        noise: median of the noise, and the standard deviation of its logarithm, before any score is seen.

    Source: Rasmussen, Williams, 2006, chapter 5; that the median length scale grows with the square root of the
    dimension: Hvarfner, Hellsten, Nardi, Vanilla Bayesian optimization performs great in high dimensions, ICML 2024.
    """

    def __init__(
        self,
        apart: Array,
        values: Array,
        variances: Array,
        counts: Array | float = 1.0,
        noise: tuple[float, float] = (NOISE, NOISE_SD),
    ) -> None:
        self.apart, self.values, self.variances, self.counts = apart, values, variances, counts
        coordinates = len(apart)
        length = np.log(LENGTH * np.sqrt(max(coordinates, 1)))
        self.mean = np.array([length] * coordinates + [np.log(VARIANCE), np.log(noise[0])])
        self.sd = np.array([LENGTH_SD] * coordinates + [VARIANCE_SD, noise[1]])

    def loss(self, point: Array) -> tuple[float, Array]:
        """Minus the log density of the hyper-parameters, up to a constant, and its gradient; shapes (d + 2,)."""
        known = self._factored(point)
        if known is None:
            return 1e25, np.zeros_like(point)
        away = (point - self.mean) / self.sd
        value = 0.5 * self.values @ known.weights + np.log(np.diag(known.root)).sum() + 0.5 * away @ away
        # d loss / d K, of which the gradient is the sum over dK.
        change = 0.5 * (known.inverse - np.outer(known.weights, known.weights))
        lengths = self.apart @ (change * known.slope).ravel() * (-2.0 * np.exp(-2.0 * point[:-2]))
        rest = [np.sum(change * known.signal), np.sum(np.diag(change) / self.counts) * np.exp(point[-1])]
        return float(value), np.concatenate([lengths, rest]) + away / self.sd

    def fit(self, start: Array, rounds: int) -> Array:
        """Return the likeliest hyper-parameters that L-BFGS finds from `start` in at most `rounds` rounds."""
        bounds = [(LOWEST, HIGHEST)] * len(start)
        options = {"maxiter": rounds, "maxls": 10}
        found = minimize(self.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return np.asarray(found.x, dtype=np.float64)

    def draws(self, point: Array, count: int, rng: np.random.Generator) -> Array:
        """Draw hyper-parameters around the most likely ones, shape (count, d + 2).

        From the normal distribution whose precision is the expected second derivative of the loss there: half the trace
        of (K^-1 dK_i K^-1 dK_j), and the prior's.
        """
        known = self._factored(point)
        if known is None:
            return np.repeat(point[None], count, axis=0)
        size = len(self.values)
        lengths = -2.0 * np.exp(-2.0 * point[:-2])[:, None] * known.slope.ravel() * self.apart
        changes = np.concatenate([lengths.reshape(-1, size, size), known.signal[None]])
        changes = np.concatenate([known.inverse @ changes, known.inverse[None] / self.counts * np.exp(point[-1])])
        precision = 0.5 * changes.reshape(len(point), -1) @ changes.transpose(0, 2, 1).reshape(len(point), -1).T
        root = np.linalg.cholesky(precision + np.diag(self.sd**-2.0))
        drawn = point + np.linalg.solve(root.T, rng.standard_normal((len(point), count))).T
        return np.clip(drawn, LOWEST, HIGHEST)

    def _factored(self, point: Array) -> "_Factored | None":
        size = len(self.values)
        squared = np.exp(-2.0 * point[:-2]) @ self.apart
        value, slope = matern(squared.reshape(size, size))
        variance = np.exp(point[-2])
        signal = variance * value
        total = signal + LEVEL
        total[np.diag_indices(size)] += np.exp(point[-1]) / self.counts + self.variances + JITTER
        root, failed = lapack.dpotrf(total, lower=1, clean=1)
        if failed:
            return None
        return _Factored(root, signal, variance * slope, self.values)


@dataclass(frozen=True)
class _Factored:
    """The covariance of the scores under some hyper-parameters: its Cholesky root, and its parts."""

    root: Array
    signal: Array
    slope: Array
    values: Array

    @cached_property
    def inverse(self) -> Array:
        lower, _ = lapack.dpotri(self.root, lower=1)
        return np.asarray(np.tril(lower) + np.tril(lower, -1).T)

    @cached_property
    def weights(self) -> Array:
        return self.inverse @ self.values


class GaussianProcess:
    """A Gaussian process with given hyper-parameters, conditioned on scores.

    Args:
        point: shape (d + 2,), hyper-parameters as in Posterior.
        owner: shape (f,), the length scale of each feature.
        features: shape (n, f), the points.
        values: shape (n,), their scores.
        variances: shape (n,), the variances of their errors.
        counts: shape (n,), number of trainings that each score is the mean of.
    """

    def __init__(
        self,
        point: Array,
        owner: NDArray[np.int64],
        features: Array,
        values: Array,
        variances: Array,
        counts: Array | float = 1.0,
    ) -> None:
        self.point, self.owner, self.scale = point, owner, np.exp(-point[:-2])[owner]
        self.variance, self.noise = float(np.exp(point[-2])), float(np.exp(point[-1]))
        self.features, self.values, self.variances, self.counts = features, values, variances, counts
        self.scaled = features * self.scale
        total = self.variance * matern(between(self.scaled, self.scaled))[0] + LEVEL
        total[np.diag_indices(len(values))] += self.noise / counts + variances + JITTER
        root = _root(total)
        self.whiten = lapack.dtrtri(root, lower=1)[0]  # the inverse of the root
        self.weights = self.whiten.T @ (self.whiten @ values)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Return mean and variance of the scores, without noise, at points of shape (m, f); each of shape (m,)."""
        cross = self.variance * matern(between(features * self.scale, self.scaled))[0] + LEVEL
        known = cross @ self.whiten.T
        left = self.variance + LEVEL - np.einsum("ij,ij->i", known, known)
        return cross @ self.weights, np.maximum(left, 1e-12)

    def slopes(self, features: Array) -> tuple[Array, Array, Array, Array]:
        """Return mean and variance, shapes (m,), and their gradients with respect to the features, shapes (m, f)."""
        scaled = features * self.scale
        value, slope = matern(between(scaled, self.scaled))
        cross, steep = self.variance * value + LEVEL, 2 * self.variance * slope
        known = cross @ self.whiten.T
        left = self.variance + LEVEL - np.einsum("ij,ij->i", known, known)
        pulls = []
        for weights in (self.weights, -2 * known @ self.whiten):
            pull = steep * weights
            pulls.append((scaled * pull.sum(1)[:, None] - pull @ self.scaled) * self.scale)
        return cross @ self.weights, np.maximum(left, 1e-12), pulls[0], pulls[1]

    def fantasized(self, features: Array, rng: np.random.Generator) -> "GaussianProcess":
        """Return the process conditioned also on scores at `features`, shape (q, f), drawn from its own prediction."""
        cross = self.variance * matern(between(features * self.scale, self.scaled))[0] + LEVEL
        known = cross @ self.whiten.T
        scaled = features * self.scale
        joint = self.variance * matern(between(scaled, scaled))[0] + LEVEL - known @ known.T
        joint[np.diag_indices(len(joint))] += self.noise + JITTER
        drawn = cross @ self.weights + _root(joint) @ rng.standard_normal(len(joint))
        return GaussianProcess(
            self.point,
            self.owner,
            np.concatenate([self.features, features]),
            np.concatenate([self.values, drawn]),
            np.concatenate([self.variances, np.zeros(len(drawn))]),
            np.append(np.broadcast_to(self.counts, len(self.values)), np.ones(len(drawn))),
        )


def _root(matrix: Array) -> Array:
    """Return the Cholesky root, with as much added to the diagonal as it takes."""
    added = 0.0
    for _ in range(12):
        root, failed = lapack.dpotrf(matrix + added * np.eye(len(matrix)), lower=1, clean=1)
        if not failed:
            return np.asarray(root)
        added = 10 * added or 1e-8
    raise np.linalg.LinAlgError("the covariance of the scores has no Cholesky root")
