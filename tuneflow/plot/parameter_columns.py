"""Parameters of a space as columns of a plot, with a place on each for every trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuneflow.analysis.parameter_axis import ParameterAxis
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.short_names import short_names
from tuneflow.markup.scales import Axis, LabelAxis, LogAxis
from tuneflow.space.coordinates import Array
from tuneflow.space.parameters import Choice, Range
from tuneflow.space.permutation import Permutation


@dataclass(frozen=True)
class ParameterColumn:
    """One parameter, and the coordinates that the trials have in it.

    A Permutation is shown by the item that comes first.

    Attributes:
        name: short, as long as tells it from the others.
        place: the first coordinate of the unit cube.
        parameter: the parameter; for a Permutation a Choice of its items.
        units: the trials' coordinates, shape (n,); NaN where it is not active.
    """

    name: str
    place: int
    parameter: Choice | Range
    units: Array

    @cached_property
    def axis(self) -> ParameterAxis:
        """The scale of the parameter over its coordinate."""
        return ParameterAxis(self.parameter)

    @property
    def positions(self) -> Array:
        """The trials' positions along the axis, from 0 to 1, shape (n,); NaN where it is not active."""
        return np.array([self.axis.position(unit) if unit == unit else np.nan for unit in self.units])

    @property
    def scale(self) -> Axis:
        """The scale of the parameter's own values, or of the indices of a Choice's options in their order."""
        if isinstance(self.parameter, Choice):
            return LabelAxis([label for _, label in self.axis.ticks(len(self.parameter.values))])
        low, high = self.parameter.low, self.parameter.high
        return (LogAxis if self.parameter.log else Axis)(low, high, isinstance(low, int))

    def drawn(self, units: Array) -> Array:
        """Return coordinates, shape (m,), as numbers on `scale`: values, or indices of options."""
        if isinstance(self.parameter, Choice):
            count = len(self.parameter.values)
            return np.array([self.axis.measure(unit) * count - 0.5 if unit == unit else np.nan for unit in units])
        return np.array([self.parameter.from_unit(unit) if unit == unit else np.nan for unit in units], dtype=float)


def columns_of(record: StudyRecord, names: Sequence[str] | None = None) -> list[ParameterColumn]:
    """Return the parameters of a space that have more than one value, or all where none has; or those of some names.

    Args:
        record: the study's.
        names: dotted names, or ends of them; None for all.

    Raises:
        ValueError: the space has no parameter of a name, or none at all.
    """
    space = record.space
    short = short_names(space.parameters)
    dotted = {place: name for name, place in space.parameters.items()}
    places = list(dotted) if names is None else [space.find(name) for name in names]
    columns = [_column(record, place, short[dotted[place]]) for place in places if place in dotted]
    if not columns:
        raise ValueError("tn.plot: the search space has no parameter; tn.plot.history draws the scores alone.")
    return columns if names is not None else [c for c in columns if c.parameter.levels > 1] or columns


def _column(record: StudyRecord, place: int, name: str) -> ParameterColumn:
    whole, units = record.space.coordinates[place].whole, record.history.units[:, place]
    if isinstance(whole, Permutation):
        count = len(whole.values)
        first = (np.floor(units * count) - count // 2) % count  # an order as it is listed is in the middle
        return ParameterColumn(f"{name}, first", place, Choice(whole.values).named(name), (first + 0.5) / count)
    assert isinstance(whole, Choice | Range)  # a Constant has no coordinate
    return ParameterColumn(name, place, whole, units)
