"""Programs that Lanes of one structure share, so that none is traced twice."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class ProgramCache:
    """What was traced, by the shapes, the number of lanes and the facts of the modules that it holds for.

    One for each loss: of that the programs know nothing. A program keeps memory of its own between calls; it is not
    for several threads at once.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._made)

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for `key`, or else is made now."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found
