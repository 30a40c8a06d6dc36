"""Magnitude: scale scores of any size so that sums and squares of them are finite."""

import numpy as np

from tuneflow.space.coordinates import Array

LARGE = 2.0**300  # its square is finite, and so is the sum of many such


def magnitude(values: Array) -> Array:
    """Return a power of two for each column of `values`, shape (n, k), by which its finite values are at most LARGE.

    It is 1 for most: only a training that goes wrong without ever becoming infinite has larger scores. To divide by it
    keeps the order, and everything to the last bit but what is smaller by a factor of 2^1000.
    """
    largest = np.max(np.abs(values), axis=0, where=np.isfinite(values), initial=0.0)
    return np.where(largest > LARGE, np.ldexp(1.0, np.frexp(largest)[1] - 300), 1.0)


def mean_of(values: Array) -> float:
    """Return the mean of `values`, shape (n,), also where their sum is beyond what a float can hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.add.reduce(values)) / len(values)  # np.mean, without most of its time
    if np.isfinite(mean) or not np.isfinite(values).all():
        return mean
    return float(np.add.reduce(np.divide(values, len(values))))
