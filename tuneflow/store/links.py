"""Symbolic links in a study's folder, which would lead writing and removing out of it."""

from pathlib import Path

from tuneflow.errors import StoreError

DATABASE = "study.sqlite"
ENTRIES = (DATABASE, *(f"{DATABASE}-{ending}" for ending in ("wal", "shm", "journal")), "states", "final")


def refuse_links(folder: Path) -> None:
    """Raise StoreError where what a study writes to, or removes from, is a link; the folder itself may be one."""
    linked = next((name for name in ENTRIES if (folder / name).is_symlink()), None)
    if linked is not None:
        raise StoreError(
            f"{folder / linked}: is a symbolic link, and a study keeps to its own folder. Where it needs another disk,"
            " move the whole folder there, and link that."
        )
