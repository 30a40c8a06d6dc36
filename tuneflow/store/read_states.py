"""States that are only read: those of a folder in which nothing may change."""

from collections.abc import Iterable
from pathlib import Path

from typing_extensions import override

from tuneflow.store.checkpoints import States


class ReadStates(States):
    """The states in a folder, in which no file is written or removed; new states are held in memory.

    Args:
        folder: the files' folder; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(None)
        self._folder = folder
        self._list("*")

    @override
    def flush(self, trial: int) -> None:
        """Write nothing."""

    @override
    def keep(self, trial: int, epochs: Iterable[int]) -> None:
        """Forget nothing."""

    @override
    def sweep(self) -> None:
        """Remove nothing."""

    @override
    def clean(self, trial: int) -> None:
        """Remove nothing."""
