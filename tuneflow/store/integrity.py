"""Integrity of the files in a study's folder: SQLite's own check, and the digests of states."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tuneflow.errors import CheckpointError
from tuneflow.store.checkpoints import read
from tuneflow.store.sqlite_file import read_only_address


def database_damages(path: Path) -> Iterator[str]:
    """Yield what SQLite finds wrong with a file; nothing for one that is whole."""
    try:
        with closing(sqlite3.connect(read_only_address(path), timeout=60, uri=True)) as database:
            for (text,) in database.execute("PRAGMA integrity_check(20)"):
                if text != "ok":
                    yield f"{path}: {' '.join(text.split())}."
    except sqlite3.Error as error:
        yield f"{path}: cannot be read ({error})."


def state_damages(files: list[Path]) -> Iterator[str]:
    """Yield what is wrong with files of states; one that a running study has removed meanwhile is not."""
    for file in files:
        try:
            read(file)
        except CheckpointError as error:
            if file.exists():
                yield str(error)
