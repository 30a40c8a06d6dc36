"""Owners on other machines, as a store's file has them, and stores under the name of another host."""

import sqlite3
import time
from contextlib import closing

import pytest

from tuneflow.store.rows import kept_row
from tuneflow.store.sqlite import SqliteStore

REMOTE = "podA/boot/1-2/12/345/0"


def own(folder, *numbers, owner=REMOTE, beat=None):
    """Give trials of a folder to an owner that is elsewhere, as if its process had just died."""
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as db:
        for number in numbers:
            db.execute("UPDATE trial SET owner = ?, status = 'RUNNING' WHERE number = ?", (owner, number))
        if beat is not None:
            db.execute("INSERT OR REPLACE INTO owner VALUES (?, ?)", (owner, beat))


def hold(folder, owner=REMOTE):
    """Have an owner that is elsewhere run the study alone."""
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as db:
        db.execute("INSERT INTO study VALUES (?, ?, ?)", kept_row("holder", {"owner": owner}))


def rows(folder, statement):
    """What a statement gives of a folder's file."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as db:
        return db.execute(statement).fetchall()


def store_of(host, folder):
    """A store in a folder whose owner is on another host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: host)
        return SqliteStore(folder / "study.sqlite")


def until(condition, seconds=30.0):
    """Wait for something, and return it."""
    end = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < end
        time.sleep(0.002)
    return outcome
