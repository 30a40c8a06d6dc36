"""Integrity of the files in a study's folder: what SQLite, the digests of rows and those of states find damaged."""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

from tuneflow.errors import CheckpointError, StoreError
from tuneflow.store.checkpoints import read
from tuneflow.store.connection import open_to_read
from tuneflow.store.rows import queued_config
from tuneflow.store.sqlite import SqliteStore
from tuneflow.store.sqlite_errors import FAILURES
from tuneflow.store.sqlite_file import read_only_address


class SoundRows(SqliteStore):
    """A store of which what is sound is read, and what is damaged is noted.

    Args:
        path: the file.

    Attributes:
        damages: what is damaged, a sentence each.
    """

    def __init__(self, path: Path) -> None:
        self.damages: list[str] = []
        super().__init__(path, reads=True)
        for row in self._run("SELECT config, trial, digest FROM queue"):
            with self._sound():
                queued_config(path, *row)

    @override
    def _connect(self, reads: bool) -> sqlite3.Connection:
        database = open_to_read(self._path, pages=False)
        database.text_factory = lambda text: text.decode(errors="surrogateescape")  # its digest tells
        return database

    @contextmanager
    @override
    def _sound(self) -> Generator[None]:
        try:
            yield
        except StoreError as error:
            self.damages.append(str(error))

    @override
    def _run(self, statement: str, row: tuple[Any, ...] = ()) -> list[Any]:
        rows: list[Any] = []
        with self._sound():
            try:
                rows.extend(self._db.execute(statement, row))  # those before a damaged page are kept
            except FAILURES as error:
                raise self._failure(error) from None
        return rows


def database_damages(path: Path) -> Iterator[str]:
    """Yield what SQLite finds wrong with a file; nothing for one that is whole."""
    try:
        with closing(sqlite3.connect(read_only_address(path), timeout=60, uri=True)) as database:
            for (text,) in database.execute("PRAGMA integrity_check(20)"):
                if text != "ok":
                    yield f"{path}: {' '.join(text.split())}."
    except FAILURES as error:
        yield f"{path}: cannot be read ({error})."


def state_damage(file: Path) -> str:
    """Return what is wrong with the file of a state; empty for one that is sound, or removed by a running study."""
    try:
        epoch = read(file).epoch
    except CheckpointError as error:
        return str(error) if file.exists() else ""
    return "" if file.stem.endswith(f"-{epoch:06d}") else f"{file}: holds a state after epoch {epoch}; it was renamed."
