"""Programs that Lanes of one structure share, so that none is traced twice."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class ProgramCache:
    """Traced programs, by shapes, number of lanes and facts of the modules.

    The loss is not part of the key: use one cache for each. A program keeps memory between calls; it must not run in
    several threads at once.
    """

    def __init__(self) -> None:
        self._programs: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._programs)

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the entry of `key`; make it if there is none."""
        if key not in self._programs:
            self._programs[key] = make()
        program: T = self._programs[key]
        return program
