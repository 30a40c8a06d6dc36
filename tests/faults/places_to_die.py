"""Places in the writing of a study at which a process kills itself; called in a process of its own only."""

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from functools import partial

DATABASE = (
    "before a commit",
    "within a commit",
    "after a commit",
    "within a transaction",
)
STATES = (
    "within the writing of a state",
    "before a state has its name",
    "after a state has its name",
)


def die_at(place, count):
    """Kill this process the `count`-th time that it comes to the place."""
    left = [count]

    def come(die=_die):
        left[0] -= 1
        if left[0] == 0:
            die()

    (_watch_states if place in STATES else _watch_database)(place, come)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _die_soon():
    """Die within the next millisecond, in which SQLite writes and syncs; it lets other threads run meanwhile."""
    threading.Thread(target=lambda: (time.sleep(random.uniform(0, 0.001)), _die()), daemon=True).start()


def _watch_database(place, come):
    class Dying(sqlite3.Connection):
        def execute(self, statement, *rest):
            commits = statement == "COMMIT"
            if commits and place in ("before a commit", "within a commit"):
                come(_die if place == "before a commit" else _die_soon)
            result = super().execute(statement, *rest)
            if place == "within a transaction" and statement.startswith(("UPDATE trial", "INSERT INTO trial")):
                come()
            if commits and place == "after a commit":
                come()
            return result

    sqlite3.connect = partial(sqlite3.connect, factory=Dying)


def _watch_states(place, come):
    fsync = os.fsync

    def torn(file):
        come(lambda: (os.ftruncate(file, os.fstat(file).st_size // 2), _die()))
        fsync(file)

    def synced(file):
        fsync(file)
        come()

    def watch(frame, event, function):
        if event == "c_return" and function is os.replace:
            come()

    if place == "after a state has its name":
        sys.setprofile(watch)  # whoever calls it by whichever name
    else:
        os.fsync = torn if place == "within the writing of a state" else synced
