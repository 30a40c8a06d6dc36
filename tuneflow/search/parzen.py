"""Parzen estimator: a density over the unit cube with one kernel around each point and one of the prior."""

import math

import numpy as np

from tuneflow.search.mallows import Mallows
from tuneflow.search.normal import ndtr, ndtri
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.order_codes import orders_at, units_of


class Parzen:
    """A mixture of kernels; each is a product over all coordinates, so the mixture keeps their interactions.

    A number's kernel is a normal density truncated to [0, 1]; a label's puts most of the mass on the label itself and
    spreads the rest over all labels; an order's is a Mallows distribution around it. A coordinate that was not active
    has a uniform kernel.

    Args:
        axes: coordinates of the space.
        points: shape (n, d), NaN where not active.
        weights: shape (n,), of the kernels; the prior's is 1.
        widths: shape (d,), standard deviations of the normal densities; at the first coordinate of an order the share
            of pairs of items that its kernel turns.
        informed: the prior is the space's own; else it is uniform.
    """

    def __init__(self, axes: Coordinates, points: Array, weights: Array, widths: Array, informed: bool) -> None:
        self._axes, self._points, self._widths, self._informed = axes, points, widths, informed
        self._numeric = ~axes.labels
        for own in axes.orders.values():
            self._numeric[own] = False
        self._mallows = [
            (own, Mallows(own.stop - own.start + 1, float(widths[first]))) for first, own in axes.orders.items()
        ]
        weights = np.append(weights, 1.0)
        self._shares = weights / weights.sum()
        self._rest = 1.0 / (len(weights) + axes.levels[axes.labels])  # a label's mass for each other label

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` points, shape (count, d), in the middle of their cells and NaN where not active."""
        axes, labels, numeric = self._axes, self._axes.labels, self._numeric
        units, shares = rng.random((2, count, len(labels)))
        chosen = rng.choice(len(self._shares), count, p=self._shares)
        points = np.vstack([self._points, np.full(len(labels), np.nan)])[chosen]
        unknown = np.isnan(points)
        for row in np.flatnonzero(unknown.any(1)):
            units[row] = axes.space.quantile(units[row])
        drawn = points.copy()
        numbers, widths = points[:, numeric], self._widths[numeric]
        low, high = ndtr(-numbers / widths), ndtr((1 - numbers) / widths)
        drawn[:, numeric] = numbers + widths * ndtri(low + (high - low) * shares[:, numeric])
        for own, mallows in self._mallows:
            drawn[:, own] = units_of(mallows.draw(orders_at(points[:, own]), shares[:, own]))
        moved = shares[:, labels] < self._rest * axes.levels[labels]
        drawn[:, labels] = np.where(moved, units[:, labels], points[:, labels])
        return axes.settled(np.where(unknown, units, drawn).clip(0.0, 1.0))

    def log_density(self, at: Array) -> Array:
        """Return the log density, shape (m,), of points of shape (m, d), as `draw` returns them."""
        labels = self._axes.labels
        logs = np.empty((len(at), len(self._shares)))
        logs[:, :-1] = self._log_numbers(at[:, self._numeric]) + self._log_labels(at[:, labels]) + self._log_orders(at)
        logs[:, -1] = self._log_prior(at)
        logs += np.log(self._shares)
        top = logs.max(1)
        return np.asarray(top + np.log(np.exp(logs - top[:, None]).sum(1)))

    def _log_numbers(self, at: Array) -> Array:
        """Return the numbers' part, shape (m, n), with the squares expanded into products of matrices."""
        widths, centers = self._widths[self._numeric], self._points[:, self._numeric]
        log_mass = np.log(ndtr((1 - centers) / widths) - ndtr(-centers / widths)) + np.log(
            widths * math.sqrt(2 * math.pi)
        )
        here, there = ~np.isnan(at), ~np.isnan(centers)
        x, mu = np.where(here, (at - 0.5) / widths, 0.0), np.where(there, (centers - 0.5) / widths, 0.0)
        own = np.where(there, mu**2 / 2 + log_mass, 0.0)
        return np.asarray(x @ mu.T - (x**2 / 2) @ there.T - here @ own.T)

    def _log_labels(self, at: Array) -> Array:
        axes, logs = self._axes, np.zeros((len(at), len(self._points)))
        for column, levels in enumerate(axes.levels[axes.labels]):
            here, there = at[:, column, None], self._points[:, axes.labels][:, column]
            rest = self._rest[column]
            same, other = math.log(1 - rest * (levels - 1)), math.log(rest)
            mass = np.where(np.abs(here - there) < 1e-9, same, other)
            mass[:, np.isnan(there)] = -math.log(levels)
            mass[np.isnan(here[:, 0])] = 0.0
            logs += mass
        return logs

    def _log_orders(self, at: Array) -> Array:
        logs = np.zeros((len(at), len(self._points)))
        for own, mallows in self._mallows:
            here, there = at[:, own], self._points[:, own]
            mass = mallows.log_density(orders_at(here), orders_at(there))
            mass[:, np.isnan(there[:, 0])] = -math.lgamma(own.stop - own.start + 2)
            mass[np.isnan(here[:, 0])] = 0.0
            logs += mass
        return logs

    def _log_prior(self, at: Array) -> Array:
        axes = self._axes
        discrete = ~self._numeric
        even = -(~np.isnan(at[:, discrete]) * np.log(axes.levels[discrete])).sum(1)
        if not self._informed:
            return np.asarray(even)
        return np.asarray(np.array([axes.space.log_prior(point) for point in at]) + even)
