"""Feature map: the unit cube of a space as the kernel sees it, for many points at once."""

import numpy as np

from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.parameters import Choice
from tuneflow.space.search_space import SearchSpace

FEW = 24  # so many values are all tried when one coordinate is changed; of more, some
FAR = 8  # of more, so many that are spread over the range, and those next to the present one


class FeatureMap(Coordinates):
    """Coordinates of a space, and the kernel's features of points.

    Points are rows of an array of shape (m, d), d coordinates, as `SearchSpace.to_unit` returns them.

    Attributes:
        smooth: shape (d,), bool: True for coordinates that are optimized by gradient.
        owner: shape (f,), the coordinate that each feature belongs to.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        parameters = [axis.parameter for axis in space.coordinates]
        self.smooth = self.levels > FEW
        self.smooth[[isinstance(p, Choice) for p in parameters]] = False
        self.owner = np.repeat(np.arange(len(parameters)), np.where(self.labels, self.levels, 1).astype(np.int64))

    @property
    def mixed(self) -> bool:
        """True if there are coordinates of both kinds, for gradients and for changes one at a time."""
        return bool(self.smooth.any() and np.isfinite(self.levels).any())

    def features(self, units: Array) -> Array:
        """Return the kernel's features, shape (m, f), of which it takes squared distances.

        A number is itself. Each label of a Choice has a feature of its own, so that any two labels are 1 apart. An
        inactive coordinate is in its middle: the branches differ by the label that selects between them.
        """
        columns = []
        for place, label in enumerate(self.labels):
            column = units[:, place]
            if label:
                with np.errstate(invalid="ignore"):
                    chosen = np.floor(column * self.levels[place])
                columns.append((chosen[:, None] == np.arange(self.levels[place])) * np.sqrt(0.5))
            else:
                columns.append(np.where(np.isnan(column), 0.5, column)[:, None])
        return np.concatenate(columns, axis=1, dtype=np.float64) if columns else np.empty((len(units), 0))

    def moves(self, unit: Array) -> Array:
        """Return all points that differ from `unit` in one discrete coordinate, shape (m, d), not settled."""
        rows = []
        for place in np.flatnonzero(np.isfinite(self.levels) & ~np.isnan(unit)):
            steps = self.levels[place]
            if steps <= FEW:
                values = (np.arange(steps) + 0.5) / steps
            else:
                near = unit[place] + np.array([-2, -1, 1, 2]) / steps
                values = np.concatenate([near[(near >= 0) & (near <= 1)], (np.arange(FAR) + 0.5) / FAR])
            row = np.repeat(np.where(np.isnan(unit), 0.5, unit)[None], len(values), axis=0)
            row[:, place] = values
            rows.append(row)
        return np.concatenate(rows) if rows else np.empty((0, len(unit)))

    def keys(self, units: Array) -> list[bytes]:
        """Return a key for each point that only the same configuration has."""
        rounded = np.round(np.nan_to_num(units, nan=-1.0), 9)
        return [row.tobytes() for row in rounded]
