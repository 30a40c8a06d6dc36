"""Orders as arrays: the coordinates of permutations, and orders that are near to one."""

import numpy as np
from numpy.typing import NDArray

Orders = NDArray[np.int64]  # shape (m, n): which item of a Permutation, as it is listed, stands at each position
Units = NDArray[np.float64]  # shape (m, n - 1): their coordinates of the unit cube


def orders_at(units: Units) -> Orders:
    """Return the orders at points of shape (m, n - 1); NaN counts as the middle, where the order is the listed one."""
    left = _left(units.shape[1] + 1)
    cells = np.minimum(np.floor(np.where(np.isnan(units), 0.5, units) * left).astype(np.int64), left - 1)
    orders = np.zeros((len(units), units.shape[1] + 1), dtype=np.int64)
    orders[:, :-1] = (cells - left // 2) % left
    for place in range(units.shape[1] - 1, -1, -1):  # a digit counts among the items that are left
        later = orders[:, place + 1 :]
        later += later >= orders[:, place, None]
    return orders


def units_of(orders: Orders) -> Units:
    """Return the points of orders, shape (m, n - 1), in the middle of their cells."""
    left = _left(orders.shape[1])
    digits = np.empty((len(orders), orders.shape[1] - 1), dtype=np.int64)
    for place in range(orders.shape[1] - 1):
        digits[:, place] = (orders[:, place + 1 :] < orders[:, place, None]).sum(1)
    return np.asarray(((digits + left // 2) % left + 0.5) / left)


def positions(orders: Orders) -> Orders:
    """Return where each item stands, shape (m, n): the inverse of each order."""
    return np.argsort(orders, axis=1, kind="stable").astype(np.int64)


def swapped(order: Orders) -> Orders:
    """Return every order that differs from one, shape (n,), by a swap of two items, shape (n (n - 1) / 2, n)."""
    first, second = np.triu_indices(len(order), 1)
    rows, result = np.arange(len(first)), np.repeat(order[None], len(first), axis=0)
    result[rows, first], result[rows, second] = order[second], order[first]
    return result


def moved(order: Orders) -> Orders:
    """Return every order that differs from one, shape (n,), by a move of one item past two or more others."""
    count = len(order)
    places = [(old, new) for old in range(count) for new in range(count) if abs(old - new) > 1]
    rows = [np.insert(np.delete(order, old), new, order[old]) for old, new in places]
    return np.array(rows, dtype=np.int64).reshape(-1, count)


def changed_order(order: Orders, rng: np.random.Generator) -> Orders:
    """Return an order after a random swap of two items or a random move of one, each as likely; shape (n,)."""
    old, new = rng.choice(len(order), 2, replace=False)
    if rng.random() < 0.5:
        result = order.copy()
        result[[old, new]] = order[[new, old]]
        return result
    return np.insert(np.delete(order, old), new, order[old])


def _left(count: int) -> Orders:
    """Return how many items are left at each position but the last: n, n - 1, ..., 2."""
    return np.arange(count, 1, -1)
