"""Layout: the unit cube of a space as a model of the scores sees it, for many points at once."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tuneflow.parameters import Choice, Int
from tuneflow.space import SearchSpace

Array = NDArray[np.float64]

FEW = 24  # so many values are all tried when one coordinate is changed; of more, some
FAR = 8  # of more, so many that are spread over the range, and those next to the present one


class Layout:
    """Which coordinates are categories, which go in steps, and which are active where.

    Points are rows of an array of shape (m, d), d coordinates, as `SearchSpace.to_unit` gives them.

    Attributes:
        steps: shape (d,), how many values each coordinate has; `inf` where it is continuous.
        smooth: shape (d,), bool: whether a point may be moved along the coordinate by a gradient.
        owner: shape (f,), the coordinate that each feature belongs to.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        parameters = [axis.parameter for axis in space.coordinates]
        self.steps = np.array([parameter.levels for parameter in parameters], dtype=np.float64)
        self.labels = [isinstance(p, Choice) and not p.ordered for p in parameters]
        self.smooth = self.steps > FEW
        self.smooth[[isinstance(p, Choice) for p in parameters]] = False
        self._log = {i: p for i, p in enumerate(parameters) if isinstance(p, Int) and p.log and p.levels > 1}
        widths = [int(steps) if label else 1 for steps, label in zip(self.steps, self.labels, strict=True)]
        self.owner = np.repeat(np.arange(len(parameters)), widths)

    @property
    def mixed(self) -> bool:
        """Whether there are coordinates of both kinds, for gradients and for changes one at a time."""
        return bool(self.smooth.any() and np.isfinite(self.steps).any())

    @cached_property
    def _needs(self) -> list[tuple[int, int, float]]:
        """(coordinate, coordinate of a Choice, number of the label that it needs there), outermost first."""
        found = []
        for place, axis in enumerate(self.space.coordinates):
            for parent, label in axis.needs:
                choice = self.space.coordinates[parent].parameter
                found.append((place, parent, float(int(choice.to_unit(label) * choice.levels))))
        return found

    def settled(self, units: Array) -> Array:
        """The points moved onto values of their parameters, NaN where a coordinate is not active."""
        moved = units.copy()
        finite = np.isfinite(self.steps)
        steps = self.steps[finite]
        moved[:, finite] = (np.minimum(np.floor(moved[:, finite] * steps), steps - 1) + 0.5) / steps
        for place, parameter in self._log.items():
            moved[:, place] = _log_cell(parameter, units[:, place])
        for place, parent, number in self._needs:
            with np.errstate(invalid="ignore"):
                chosen = np.floor(moved[:, parent] * self.steps[parent]) == number
            moved[~chosen, place] = np.nan
        return moved

    def features(self, units: Array) -> Array:
        """Coordinates for the kernel, shape (m, f): squared distances between them are those that it wants.

        A number is itself. Each label of a Choice has a feature of its own, so that two different labels lie 1 apart,
        whichever they are. A coordinate that is not active lies in its middle: what tells the branches apart is
        the label that chose between them.
        """
        columns = []
        for place, label in enumerate(self.labels):
            column = units[:, place]
            if label:
                with np.errstate(invalid="ignore"):
                    chosen = np.floor(column * self.steps[place])
                columns.append((chosen[:, None] == np.arange(self.steps[place])) * np.sqrt(0.5))
            else:
                columns.append(np.where(np.isnan(column), 0.5, column)[:, None])
        return np.concatenate(columns, axis=1, dtype=np.float64) if columns else np.empty((len(units), 0))

    def moves(self, unit: Array) -> Array:
        """Every point that differs from `unit`, shape (d,), in one discrete coordinate; shape (m, d), not settled."""
        rows = []
        for place in np.flatnonzero(np.isfinite(self.steps) & ~np.isnan(unit)):
            steps = self.steps[place]
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
        """For each point, what only the same configuration has."""
        rounded = np.round(np.nan_to_num(units, nan=-1.0), 9)
        return [row.tobytes() for row in rounded]


def _log_cell(parameter: Int, units: Array) -> Array:
    """The middle of the cell of the whole number at each place, as `Int.to_unit` has it."""
    left, right = np.log(parameter.low - 0.5), np.log(parameter.high + 0.5)
    values = np.clip(np.round(np.exp(left + units * (right - left))), parameter.low, parameter.high)
    middle = (np.log(values - 0.5) + np.log(values + 0.5)) / 2
    placed: Array = (middle - left) / (right - left)
    return placed
