"""Connections to SQLite of which a statement fails, or at which the process dies, where a test wants it."""

import sqlite3
import threading
from contextlib import contextmanager
from unittest import mock


class Killed(BaseException):
    """The process was killed: nothing that it would have done afterwards is done."""


class Faults:
    """Where the next fault is, of the statements of this thread; a heartbeat has a thread of its own.

    Attributes:
        left: number of statements before it; None for no fault.
        kills: True where the process dies there, False where the statement fails.
        committed: True if a COMMIT was carried out since the fault was set.
    """

    def __init__(self):
        self.left, self.kills, self.committed, self._thread = None, False, False, threading.get_ident()

    @contextmanager
    def after(self, statements, kills):
        """A block in which there is a fault after so many statements."""
        self.left, self.kills, self.committed = statements, kills, False
        try:
            yield self
        finally:
            self.left = None

    def check(self):
        if self.left is None or threading.get_ident() != self._thread:
            return
        if self.left == 0:
            if self.kills:
                raise Killed
            self.left = None
            raise sqlite3.OperationalError("disk I/O error")
        self.left -= 1

    def connecting(self):
        """A block in which every new connection has these faults."""
        faults, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, statement, *values):
                faults.check()
                done = super().execute(statement, *values)
                faults.committed = faults.committed or statement == "COMMIT"
                return done

        return mock.patch("sqlite3.connect", lambda *names, **more: connect(*names, factory=Connection, **more))
