"""Feature map: the unit cube of a space as the kernel sees it, for many points at once."""

import math

import numpy as np

from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.order_codes import neighbors, orders_at, positions, units_of
from tuneflow.space.parameters import Choice
from tuneflow.space.search_space import SearchSpace

FEW = 24  # so many values are all tried when one coordinate is changed; of more, some
MANY = 400  # swaps and moves of an order that are tried
FAR = 8  # of more, so many that are spread over the range, and those next to the present one


class FeatureMap(Coordinates):
    """Coordinates of a space, and the kernel's features of points.

    Points are rows of an array of shape (m, d), d coordinates, as `SearchSpace.to_unit` returns them.

    Attributes:
        smooth: shape (d,), bool: True for coordinates that are optimized by gradient.
        scales: number of length scales, p: one for each parameter, but two for an order.
        owner: shape (f,), the length scale that each feature has, from 0.
        column: shape (d,), the first feature of the parameter that each coordinate belongs to.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        parameters = [axis.parameter for axis in space.coordinates]
        self.smooth = self.levels > FEW
        self.smooth[[isinstance(p, Choice) for p in parameters]] = False
        for own in self.orders.values():
            self.smooth[own] = False
        sizes = [self._sizes(place) for place in np.flatnonzero(self.heads).tolist()]
        self.scales = sum(map(len, sizes))
        self.owner = np.repeat(np.arange(self.scales), [size for own_sizes in sizes for size in own_sizes])
        first = np.cumsum([0, *map(sum, sizes)])
        self.column = first[np.cumsum(self.heads) - 1]

    def _sizes(self, place: int) -> list[int]:
        """Return the number of features of a parameter, by its first coordinate, for each of its length scales."""
        if place in self.orders:
            count = self.orders[place].stop - place + 1
            return [math.comb(count, 2), count * count]
        return [int(self.levels[place]) if self.labels[place] else 1]

    @property
    def mixed(self) -> bool:
        """True if there are coordinates of both kinds, for gradients and for changes one at a time."""
        return bool(self.smooth.any() and np.isfinite(self.levels).any())

    def features(self, units: Array) -> Array:
        """Return the kernel's features, shape (m, f), of which it takes squared distances.

        A number is itself. Each label of a Choice has a feature of its own, so that any two labels are 1 apart. An
        order has one for each pair of items, by which of them comes first, and one for each item at each position: two
        orders are as far apart as the share of pairs that are turned, and as that of positions with another item. What
        is inactive is in its middle: the branches differ by the label that selects between them.
        """
        columns = []
        for place in np.flatnonzero(self.heads).tolist():
            column = units[:, place]
            if place in self.orders:
                columns += self._order_features(units[:, self.orders[place]])
            elif self.labels[place]:
                with np.errstate(invalid="ignore"):
                    chosen = np.floor(column * self.levels[place])
                columns.append((chosen[:, None] == np.arange(self.levels[place])) * np.sqrt(0.5))
            else:
                columns.append(np.where(np.isnan(column), 0.5, column)[:, None])
        return np.concatenate(columns, axis=1, dtype=np.float64) if columns else np.empty((len(units), 0))

    def moves(self, unit: Array) -> Array:
        """Return points that differ from `unit` in one discrete parameter, shape (m, d), not settled.

        All of them, but for numbers with many values, and orders with more than MANY swaps and moves.
        """
        rows = []
        for place in np.flatnonzero(self.heads & np.isfinite(self.levels) & ~np.isnan(unit)).tolist():
            own = self.orders.get(place, slice(place, place + 1))
            values = self._near_orders(unit[own]) if place in self.orders else self._near_values(unit[place], place)
            row = np.repeat(np.where(np.isnan(unit), 0.5, unit)[None], len(values), axis=0)
            row[:, own] = values
            rows.append(row)
        return np.concatenate(rows) if rows else np.empty((0, len(unit)))

    def _near_values(self, unit: float, place: int) -> Array:
        steps = self.levels[place]
        if steps <= FEW:
            return np.asarray((np.arange(steps) + 0.5) / steps)[:, None]
        near = unit + np.array([-2, -1, 1, 2]) / steps
        return np.concatenate([near[(near >= 0) & (near <= 1)], (np.arange(FAR) + 0.5) / FAR])[:, None]

    def _near_orders(self, units: Array) -> Array:
        order = orders_at(units[None])[0]
        near = neighbors(len(order))
        return units_of(order[near[:: 1 + len(near) // MANY]])

    def _order_features(self, units: Array) -> list[Array]:
        places = positions(orders_at(units))
        count = places.shape[1]
        first, second = np.triu_indices(count, 1)
        before = np.where(np.isnan(units[:, :1]), 0.5, places[:, first] < places[:, second])
        there = np.where(np.isnan(units[:, :1, None]), 1 / count, places[:, :, None] == np.arange(count))
        return [before / np.sqrt(len(first)), there.reshape(len(units), count * count) / np.sqrt(2 * count)]

    def keys(self, units: Array) -> list[bytes]:
        """Return a key for each point that only the same configuration has."""
        rounded = np.round(np.nan_to_num(units, nan=-1.0), 9)
        return [row.tobytes() for row in rounded]
