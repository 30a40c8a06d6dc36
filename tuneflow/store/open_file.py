"""The file that a store has open: whether it still is the one at its path, and what is beside a path without one."""

import os
from pathlib import Path
from typing import NamedTuple

from tuneflow.errors import StoreError, plural
from tuneflow.store.sqlite_file import file_system

BACKUP = "Restore it from a backup, or use another folder."


class OpenFile(NamedTuple):
    """A file that was opened, by what tells it from another one at the same path.

    Attributes:
        path: where it was opened.
        identity: its device and inode; None where the file system gives a file several.
    """

    path: Path
    identity: tuple[int, int] | None

    @classmethod
    def at(cls, path: Path) -> "OpenFile":
        """Return the file that is at `path` now."""
        facts = os.stat(path)
        return cls(path, None if file_system(path).startswith("fuse") else (facts.st_dev, facts.st_ino))

    def check(self) -> None:
        """Raise StoreError where the file is not at its path any more, as what is written to it is lost then."""
        try:
            facts = os.stat(self.path)
        except OSError:
            raise StoreError(
                f"{self.path}: was removed while its study runs, or its folder was renamed. Put it back and run again,"
                " or use another folder."
            ) from None
        if not facts.st_size:
            raise StoreError(f"{self.path}: was emptied while its study runs. {BACKUP}")
        if self.identity not in (None, (facts.st_dev, facts.st_ino)):
            raise StoreError(
                f"{self.path}: was replaced by another file while its study runs. Make the study again: it goes on from"
                " what the new file holds."
            )


def refuse_lost(path: Path) -> None:
    """Raise StoreError where a store's file is empty, or absent beside what only its study can have left."""
    beside = _left_beside(path)
    if not os.path.lexists(path):
        if beside:
            raise StoreError(f"{path}: is not there, but {beside} of its study. {BACKUP}")
    elif path.is_file() and not path.stat().st_size:
        rest = f", and {beside} of its study" if beside else ""
        raise StoreError(f"{path}: is empty (0 bytes){rest}. {BACKUP}")


def _left_beside(path: Path) -> str:
    """Return what a study left beside its file; empty where there is nothing."""
    for name in ("states", "final"):
        if count := sum(1 for _ in (path.parent / name).glob("*.state")):
            return f"{path.parent / name} holds {plural(count, 'state')}"
    log = path.with_name(f"{path.name}-wal")
    return f"{log} is a log" if log.exists() else ""
