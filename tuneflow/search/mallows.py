"""The Mallows distribution: orders around a center, less likely by a factor for each pair of items that is turned."""

import math

import numpy as np

from tuneflow.space.coordinates import Array
from tuneflow.space.order_codes import Orders, left_at, orders_of_digits, positions


class Mallows:
    """Orders of n items, with a probability of phi^K for K pairs that stand the other way round than in the center.

    Args:
        count: n, at least 2.
        share: the expected share of such pairs, above 0; 0.5 or more is every order alike.

    Source: Mallows, Non-null ranking models, 1957; drawn item by item: Doignon, Pekec, Regenwetter, The repeated
    insertion model for rankings, 2004.
    """

    def __init__(self, count: int, share: float) -> None:
        self._left = left_at(count)
        self._phi = _phi(count, share * math.comb(count, 2))
        self._log_total = sum(math.log(_sum(self._phi, left)) for left in range(2, count + 1))

    def draw(self, centers: Orders, shares: Array) -> Orders:
        """Return an order around each center, shape (m, n).

        Args:
            centers: shape (m, n).
            shares: shape (m, n - 1), uniform random numbers.
        """
        if self._phi == 1:
            digits = np.floor(shares * self._left)
        else:
            digits = np.floor(np.log1p(-shares * (1 - self._phi**self._left)) / math.log(self._phi))
        relative = orders_of_digits(np.minimum(digits.astype(np.int64), self._left - 1))
        return np.take_along_axis(centers, relative, axis=1)

    def log_density(self, at: Orders, centers: Orders) -> Array:
        """Return the log probabilities of orders, shape (m, n), around centers, shape (k, n): shape (m, k)."""
        signs, other = _signs(at), _signs(centers)
        turned = (signs.shape[1] - signs @ other.T) / 2
        return np.asarray(turned * math.log(self._phi) - self._log_total)


def turned(orders: Orders) -> float:
    """Return the mean share of pairs of items that stand the other way round in two of some orders, shape (m, n)."""
    signs = _signs(orders)
    return float(np.mean((1 - np.square(signs.mean(0))) / 2)) if len(orders) else 0.0


def _signs(orders: Orders) -> Array:
    """Return 1 for each pair of items where the first one comes first, else -1; shape (m, n (n - 1) / 2)."""
    places = positions(orders)
    first, second = np.triu_indices(orders.shape[1], 1)
    return np.where(places[:, first] < places[:, second], 1.0, -1.0)


def _sum(phi: float, left: int) -> float:
    return left if phi == 1 else (1 - phi**left) / (1 - phi)


def _expected(phi: float, count: int) -> float:
    """Return the expected number of pairs that are turned."""
    return sum(phi / (1 - phi) - left * phi**left / (1 - phi**left) for left in range(2, count + 1))


def _phi(count: int, turned: float) -> float:
    """Return the phi at which so many pairs are turned on average; 1 where that is half of them or more."""
    low, high = 0.0, 1 - 1e-6
    if turned >= _expected(high, count):
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(middle, count) < turned else (low, middle)
    return high
