"""The normal distribution of CMA-ES, and its update from a generation of ranked points."""

import math
from functools import cached_property

import numpy as np

from tuneflow.space.coordinates import Array

LONGEST = 3.0  # a step longer than sqrt(d) + 3 did not come from here, and is shortened to that


class CMADistribution:
    """N(mean, sigma^2 C), adapted toward the better points.

    Attributes:
        mean: shape (d,).
        sigma: the step size.
        C: shape (d, d).
        size: number of points in a generation, lambda.
        weights: shape (size,), of the points from the best to the worst; those of the better half sum to 1.
        generation: number of generations learned from.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, 2016, with its default settings; the letters are its own.
    """

    def __init__(self, mean: Array, sigma: float, C: Array | None = None, size: int | None = None) -> None:
        d = len(mean)
        self.mean, self.sigma, self.C = mean.copy(), sigma, np.eye(d) if C is None else C.copy()
        self.size = n = size or 4 + math.floor(3 * math.log(d))
        self.generation = 0
        raw = math.log((n + 1) / 2) - np.log(np.arange(1, n + 1))
        best, worst = raw[: n // 2], raw[n // 2 :]
        self._mu_eff = mu = float(best.sum() ** 2 / (best**2).sum())
        self._c_1 = c_1 = 2 / ((d + 1.3) ** 2 + mu)
        self._c_mu = c_mu = min(1 - c_1 - 1e-8, 2 * (mu - 2 + 1 / mu) / ((d + 2) ** 2 + mu))
        mu_minus = worst.sum() ** 2 / (worst**2).sum()
        alpha = min(1 + c_1 / c_mu, 1 + 2 * mu_minus / (mu + 2), (1 - c_1 - c_mu) / (d * c_mu))
        self.weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), alpha * raw / -raw[raw < 0].sum())
        self._c_sigma = (mu + 2) / (d + mu + 5)
        self._d_sigma = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (d + 1)) - 1) + self._c_sigma
        self._c_c = (4 + mu / d) / (d + 4 + 2 * mu / d)
        self._chi = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2))
        self._p_sigma, self._p_c = np.zeros(d), np.zeros(d)

    @cached_property
    def axes(self) -> tuple[Array, Array]:
        """The eigendecomposition C = B diag(D^2) B^T: B, shape (d, d), and D, shape (d,)."""
        squares, B = np.linalg.eigh(self.C)
        return B, np.sqrt(np.maximum(squares, 1e-16))

    def draw(self, rng: np.random.Generator, count: int) -> Array:
        """Draw points, shape (count, d)."""
        B, D = self.axes
        return np.asarray(self.mean + self.sigma * ((rng.standard_normal((count, len(D))) * D) @ B.T))

    def learn(self, points: Array) -> None:
        """Update from a generation: `points`, shape (size, d), the best first."""
        d, (B, D) = len(self.mean), self.axes
        self.generation += 1
        y = (points - self.mean) / self.sigma
        lengths = np.linalg.norm((y @ B) / D, axis=1)
        short = np.minimum(1.0, (math.sqrt(d) + LONGEST) / np.maximum(lengths, 1e-300))
        y, lengths = y * short[:, None], lengths * short
        y_w = self.weights[: self.size // 2] @ y[: self.size // 2]
        self.mean = self.mean + self.sigma * y_w

        c, mu = self._c_sigma, self._mu_eff
        self._p_sigma = (1 - c) * self._p_sigma + math.sqrt(c * (2 - c) * mu) * (B @ ((B.T @ y_w) / D))
        length = float(np.linalg.norm(self._p_sigma))
        self.sigma *= math.exp(c / self._d_sigma * (length / self._chi - 1))
        usual = math.sqrt(1 - (1 - c) ** (2 * (self.generation + 1))) * (1.4 + 2 / (d + 1)) * self._chi
        h = 1.0 if length < usual else 0.0

        c = self._c_c
        self._p_c = (1 - c) * self._p_c + h * math.sqrt(c * (2 - c) * mu) * y_w
        weights = np.where(self.weights >= 0, self.weights, self.weights * d / (lengths**2 + 1e-8))
        kept = 1 + self._c_1 * (1 - h) * c * (2 - c) - self._c_1 - self._c_mu * self.weights.sum()
        C = kept * self.C + self._c_1 * np.outer(self._p_c, self._p_c) + self._c_mu * (y.T * weights) @ y
        self.C = (C + C.T) / 2
        del self.axes
