"""Orders as arrays: the coordinates of permutations, and orders that are near to one."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Orders = NDArray[np.int64]  # shape (m, n): which item of a Permutation, as it is listed, stands at each position
Units = NDArray[np.float64]  # shape (m, n - 1): their coordinates of the unit cube

MOST = 6_000  # changes of an order that are considered, about


def orders_at(units: Units) -> Orders:
    """Return the orders at points of shape (m, n - 1); NaN counts as the middle, where the order is the listed one."""
    left = left_at(units.shape[1] + 1)
    cells = np.minimum(np.floor(np.where(np.isnan(units), 0.5, units) * left).astype(np.int64), left - 1)
    return orders_of_digits((cells - left // 2) % left)


def orders_of_digits(digits: Orders) -> Orders:
    """Return the orders with these Lehmer codes, shape (m, n - 1): the place of each item among those that are left."""
    orders = np.zeros((len(digits), digits.shape[1] + 1), dtype=np.int64)
    orders[:, :-1] = digits
    for place in range(digits.shape[1] - 1, -1, -1):
        later = orders[:, place + 1 :]
        later += later >= orders[:, place, None]
    return orders


def units_of(orders: Orders) -> Units:
    """Return the points of orders, shape (m, n - 1), in the middle of their cells."""
    left = left_at(orders.shape[1])
    digits = np.empty((len(orders), orders.shape[1] - 1), dtype=np.int64)
    for place in range(orders.shape[1] - 1):
        digits[:, place] = (orders[:, place + 1 :] < orders[:, place, None]).sum(1)
    return np.asarray(((digits + left // 2) % left + 0.5) / left)


def positions(orders: Orders) -> Orders:
    """Return where each item stands, shape (m, n): the inverse of each order."""
    return np.argsort(orders, axis=1, kind="stable").astype(np.int64)


@lru_cache(maxsize=16)
def neighbors(count: int) -> Orders:
    """Return the changes of an order of n items, as positions to take them from, shape (k, n).

    Each swaps two items, or moves one past two or more others; between distant positions only where n is at most 44, so
    that there are at most 6,000.
    """
    reach = min(count - 1, max(2, MOST // (3 * count)))
    places, rows = np.arange(count), []
    for first in range(count):
        for second in range(first + 1, min(first + reach, count - 1) + 1):
            swap, there, back = places.copy(), places.copy(), places.copy()
            swap[[first, second]] = second, first
            there[first : second + 1] = np.roll(places[first : second + 1], -1)
            back[first : second + 1] = np.roll(places[first : second + 1], 1)
            rows += [swap] if second == first + 1 else [swap, there, back]
    return np.array(rows, dtype=np.int64)


def reordered(orders: Orders, rng: np.random.Generator) -> Orders:
    """Return each of some orders, shape (m, n), after a random swap of two items or a random move of one."""
    changes = neighbors(orders.shape[1])
    return np.take_along_axis(orders, changes[rng.integers(len(changes), size=len(orders))], axis=1)


def left_at(count: int) -> Orders:
    """Return how many items are left at each position but the last: n, n - 1, ..., 2."""
    return np.arange(count, 1, -1)
