"""Connections to a store's file: for writing, where it is made if it is not there, and for reading."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tuneflow.errors import warn
from tuneflow.store.atomic_file import write_once
from tuneflow.store.open_file import refuse_lost
from tuneflow.store.schema import check_pages, check_tables, new_content
from tuneflow.store.sqlite_errors import FAILURES, not_opened
from tuneflow.store.sqlite_file import NETWORK, file_system, read_only_address, writing_address

LONGEST = 2**27  # bytes of a value; a stranger's file may hold larger ones, which are refused before they are read
PATIENCE = 60.0  # seconds to wait for other processes that lock the file


def open_to_write(path: Path) -> sqlite3.Connection:
    """Return a connection that writes; the file is made whole, with its tables, if it is not there.

    Raises:
        StoreError: the file cannot be made or opened, is lost, damaged or no store of this version.
    """
    refuse_lost(path)
    kind = file_system(path)
    log = kind not in NETWORK  # by a log (WAL), which needs memory that the processes share
    try:
        if not os.path.lexists(path):
            write_once(path, new_content(log))
        database = _connected(writing_address(path), lambda database: _begin(database, path, log))
    except (*FAILURES, OSError) as error:
        raise not_opened(error, path) from None
    if not log:
        warn(f"{path}: lies on a network file system ({kind}); sharing it between hosts is slow and unsafe.")
    return database


def open_to_read(path: Path, pages: bool = True) -> sqlite3.Connection:
    """Return a connection that changes nothing, and leaves no file behind that it has made.

    Args:
        path: the file.
        pages: let SQLite check its pages first.

    Raises:
        StoreError: the file cannot be opened, is lost, damaged or no store of this version.
    """
    refuse_lost(path)
    try:
        database = _connected(read_only_address(path), lambda database: _check(database, path, pages))
    except (*FAILURES, OSError) as error:
        raise not_opened(error, path) from None
    database.execute("PRAGMA query_only=1")
    return database


def _connected(address: str, begin: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """Return a connection with which `begin` was carried out."""
    database = sqlite3.connect(address, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=True)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    try:
        _patiently(lambda: begin(database))
    except BaseException:
        database.close()
        raise
    return database


def _begin(database: sqlite3.Connection, path: Path, log: bool) -> None:
    _check(database, path)
    database.execute(f"PRAGMA journal_mode={'WAL' if log else 'DELETE'}")
    database.execute("PRAGMA synchronous=NORMAL")


def _check(database: sqlite3.Connection, path: Path, pages: bool = True) -> None:
    check_tables(database, path)
    if pages:
        check_pages(database, path)


def _patiently(action: Callable[[], None]) -> None:
    """Try again while another process locks the file: the switch to WAL does not wait by itself."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
