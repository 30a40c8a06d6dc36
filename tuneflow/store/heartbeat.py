"""Heartbeat: a thread that shows other machines that an owner is alive, and watches those that run elsewhere."""

import atexit
import logging
import os
import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from tuneflow.store import sightings
from tuneflow.store.owner import lives

log = logging.getLogger("tuneflow")

OWNERS = """
SELECT name, beat FROM (SELECT owner AS name FROM trial INDEXED BY owned WHERE owner IS NOT NULL
                        UNION SELECT name FROM owner) LEFT JOIN owner USING (name)
"""  # every owner of a trial, and every one that beats
PATIENCE = 0.5  # seconds that a beat waits for the file, after which it is tried again
FREED = (
    "%s: another process took this one for dead, or it was freed by hand; the trials that it had under way are free,"
    " and what it trains of them is dropped."
)

_beating = threading.RLock()  # held while SQLite is at work in such a thread: no process is forked meanwhile
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_beating.acquire, after_in_parent=_beating.release, after_in_child=_beating.release
    )  # so that the child does not find SQLite locked for ever


class Heartbeat:
    """A thread that counts up an owner's number in the store, until it is stopped.

    It has a connection of its own. A beat that cannot be written is tried again, and says nothing:
    training goes on, and what it reports meets the same fault.

    Args:
        path: the store's file, which has to be there.
        owner: whose beats they are.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self._over = threading.Event()
        beats = _Beats(str(path.absolute()), owner)
        self._thread = threading.Thread(target=_run, args=(beats, self._over), name="tuneflow heartbeat", daemon=True)
        self._thread.start()
        _running.add(self)

    def stop(self, wait: bool = True) -> None:
        """End the thread, and wait for that if need be; in a forked process there is none."""
        if self._thread.is_alive():
            self._over.set()
            if wait:
                self._thread.join(4 * PATIENCE)


_running: WeakSet[Heartbeat] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """Close the connections of studies that nobody closed: SQLite tidies its files up at the last one."""
    for heartbeat in list(_running):
        heartbeat.stop()


class _Beats:
    """The beats of an owner; see Heartbeat."""

    def __init__(self, path: str, owner: str) -> None:
        self._path, self._owner = path, owner
        self._db: sqlite3.Connection | None = None
        self._count, self._entered, self._warned = 0, False, False

    def once(self) -> float:
        """Beat, and return the seconds until the next time; after an error that is soon, with a new connection."""
        with _beating:
            try:
                self._db = self._db or self._connected()
                self._beat(self._db)
            except sqlite3.Error:
                self.close()
                return sightings.BEAT / 5
        return sightings.BEAT

    def close(self) -> None:
        """Close the connection."""
        with _beating:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _connected(self) -> sqlite3.Connection:
        address = f"file:{quote(self._path)}?mode=rw"  # it makes no file
        db = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
        db.execute("PRAGMA synchronous=NORMAL")  # no beat has to survive the machine
        return db

    def _beat(self, db: sqlite3.Connection) -> None:
        """Count this owner's beats up, and see how far others are."""
        self._count += 1
        if not db.execute("UPDATE owner SET beat = ? WHERE name = ?", (self._count, self._owner)).rowcount:
            self._enter(db)
        for owner, count in db.execute(OWNERS).fetchall():
            if lives(owner) is None:
                sightings.sighting(self._path, owner, count)

    def _enter(self, db: sqlite3.Connection) -> None:
        """Enter this owner, for the first time or after another process took it for dead."""
        if self._entered and not self._warned:
            self._warned = True
            log.warning(FREED, self._path)
        db.execute("INSERT OR REPLACE INTO owner VALUES (?, ?)", (self._owner, self._count))
        self._entered = True


def _run(beats: _Beats, over: threading.Event) -> None:
    while not over.is_set():
        over.wait(beats.once())
    beats.close()
