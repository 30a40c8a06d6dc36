"""Failures of a store's file as StoreError: what is damaged, what SQLite could not do, and the way out."""

import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

from tuneflow.errors import StoreError
from tuneflow.store.atomic_file import NO_ROOM
from tuneflow.store.sqlite_file import who_may_write

FAILURES = (sqlite3.Error, UnicodeDecodeError)  # the latter where its message has a damaged name in it
ROOM = 2**16  # bytes: with less, there is no room for SQLite's shared memory or its next pages


def damaged(path: Path, what: str, trial: int | None = None) -> StoreError:
    """Return the error of a file that holds something else than was written.

    Args:
        path: the file.
        what: the damage, as the main clause of a sentence.
        trial: number of the trial that it concerns.
    """
    where = f"{path}: " if trial is None else f"{path}: trial {trial}: "
    return StoreError(
        f"{where}{what}, so the file is damaged; `python -m tuneflow check {path.parent}` shows what of it is sound."
        " Restore it from a backup, or use another folder."
    )


def not_opened(error: Exception, path: Path) -> StoreError:
    """Return the error of a file that cannot be made or opened."""
    if is_full(error, path):
        return StoreError(f"{path}: disk full; there is no room for a study. Make room and run again.")
    if _is_malformed(error):
        return damaged(path, f"it cannot be read ({error})")
    return StoreError(f"{path}: not a tuneflow store, or it cannot be opened ({error}){who_may_write(path)}.")


def not_done(error: Exception, path: Path, ended: int | None) -> StoreError:
    """Return the error of a statement that could not be carried out.

    Args:
        error: SQLite's.
        path: the file.
        ended: number of trials that have ended in it; None where it cannot be read.
    """
    if is_full(error, path):
        safe = "" if ended is None else f"; {ended} trials safe"
        return StoreError(f"{path}: disk full{safe}. Make room and run again.")
    if "closed" in str(error):
        return StoreError(f"{path}: this study is closed; make it again.")
    if "readonly" in str(error):
        return StoreError(f"{path}: cannot be written ({error}){who_may_write(path)}.")
    if _is_malformed(error):
        return damaged(path, f"it cannot be read ({error})")
    return StoreError(f"{path}: cannot be read or written ({error}).")


def _is_malformed(error: Exception) -> bool:
    return isinstance(error, UnicodeDecodeError) or "malformed" in str(error) or "decode" in str(error)


def is_full(error: Exception, path: Path) -> bool:
    """True if a file could not be written for want of room.

    SQLite calls a quota or a limit of a file's size an I/O error, and a shared memory that does not fit.
    """
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return "full" in str(error) or ("I/O" in str(error) and not _has_room(path))


def _has_room(path: Path) -> bool:
    """True if a little more can be written beside `path`, as far as its own size."""
    with suppress(OSError):
        if shutil.disk_usage(path.parent).free < ROOM:
            return False
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.truncate(max(map(_size, (path, path.with_name(f"{path.name}-wal")))))
            file.seek(0, 2)
            file.write(bytes(ROOM))
    except OSError as error:
        return error.errno not in NO_ROOM
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
