"""A copy of a store's file as of one moment, while other processes write to it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tuneflow.store.connection import open_to_read
from tuneflow.store.ownership import HOLDER
from tuneflow.store.sqlite_errors import FAILURES, not_done

# Nobody works on the copy yet.
FREE = (
    "UPDATE trial SET owner = NULL, status = CASE status WHEN 'RUNNING' THEN 'PAUSED' ELSE status END"
    " WHERE owner IS NOT NULL",
    f"DELETE FROM study WHERE key = '{HOLDER}'",
    "DELETE FROM owner",
)


def database_copy(path: Path) -> tuple[bytes, int]:
    """Return the content of a file for a copy of it, and the number of trials in it.

    Trials that are under way are paused in the copy, as nobody trains them there.

    Raises:
        StoreError: the file cannot be read, is damaged or no store of this version.
    """
    with closing(open_to_read(path)) as source, closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        try:
            source.backup(copy)
            for statement in FREE:
                copy.execute(statement)
            (count,) = copy.execute("SELECT count(*) FROM trial").fetchone()
        except FAILURES as error:
            raise not_done(error, path, None) from None
        return copy.serialize(), count
