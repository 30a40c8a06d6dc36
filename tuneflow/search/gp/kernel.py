"""The Matern kernel with a length scale for each parameter, and its derivatives."""

import numpy as np
from numpy.typing import NDArray

from tuneflow.space.coordinates import Array

ROOT5 = np.sqrt(5.0)


def matern(squared: Array) -> tuple[Array, Array]:
    """Matern-5/2 at squared scaled distances r^2 of any shape, and its derivative with respect to r^2.

        k = (1 + a + a^2 / 3) exp(-a),   dk / d(r^2) = -5/6 (1 + a) exp(-a),   a = sqrt(5) r

    Source: Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, equation 4.17.
    """
    a = ROOT5 * np.sqrt(squared)
    fall = np.exp(-a)
    return (1 + a + a * a / 3) * fall, (-5 / 6) * (1 + a) * fall


def apart(features: Array, owner: NDArray[np.int64], scales: int) -> Array:
    """Return the squared distance of every two points for each length scale, shape (p, n * n).

    Args:
        features: shape (n, f).
        owner: shape (f,), the length scale of each feature.
        scales: p.
    """
    found = np.zeros((scales, len(features) ** 2))
    for column, place in enumerate(owner):
        values = features[:, column]
        found[place] += np.square(values[:, None] - values).ravel()
    return found


def between(one: Array, other: Array) -> Array:
    """Return squared distances of scaled points: shapes (m, f) and (n, f) give (m, n)."""
    squared = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    return np.asarray(np.maximum(squared, 0.0))
