"""Grid points: the values of a grid, and their combinations as a lazy sequence of configurations."""

from collections.abc import Callable, Sequence
from typing import Any, overload

from tuneflow.space.nodes import Coordinate, Record

MOST = 1_000_000  # points of a grid on which where= is evaluated


class GridPoints(Sequence[dict[str, Any]]):
    """A lazy sequence of configurations: each point is built when it is indexed, so 10^12 points cost nothing.

    Args:
        root: the space's tree of nodes.
        values: the values of each coordinate.
        allows: the space's `where=`; points that it excludes are left out.

    Attributes:
        total: number of points, also where `len` would overflow.

    Raises:
        ValueError: `where=` would have to be evaluated on more than a million points.
    """

    def __init__(
        self, root: Record, values: list[list[Any]], allows: Callable[[dict[str, Any]], bool] | None = None
    ) -> None:
        self._root, self.values = root, values
        self.total: int = root.count(values)
        self._allowed: Sequence[int] = range(self.total)
        if allows is not None:
            if self.total > MOST:
                raise ValueError(f"grid: where= would be evaluated on {self.total:,} points; pass fewer points.")
            self._allowed = [i for i in self._allowed if allows(root.nth(i, values))]
            self.total = len(self._allowed)

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(self.total))]
        if not -self.total <= place < self.total:
            raise IndexError(f"a grid of {self.total} points has no point {place}")
        return self._root.nth(self._allowed[place], self.values)


def grid_values(axis: Coordinate, wanted: Any) -> list[Any]:
    """Return a coordinate's values on a grid.

    Args:
        axis: the coordinate.
        wanted: a number of points, or a list of values.

    Raises:
        TypeError, ValueError: `wanted` is neither, or a value is not the parameter's.
    """
    what = f'grid of "{".".join(axis.path)}"'
    if isinstance(wanted, bool | str) or not isinstance(wanted, int | Sequence):
        raise TypeError(f"{what}: needs a number of points or a list of values, got {wanted!r}.")
    if isinstance(wanted, int):
        if wanted < 1:
            raise ValueError(f"{what}: needs at least 1 point, got {wanted}.")
        return axis.whole.grid(wanted)
    if not wanted:
        raise ValueError(f"{what}: needs at least one value, got {wanted!r}; leave the name out for 5 points.")
    try:
        values = [axis.whole.cast(value) for value in wanted]
    except ValueError as error:
        raise ValueError(f"{what}: {error}.") from None
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{what}: needs different values, got {value!r} twice; remove one.")
    return values
