"""Forgeries of a study's folder that its store accepts: changed reports, and changed states with right digests."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tuneflow.nested import mapped
from tuneflow.store.checkpoints import read, write
from tuneflow.train.job import TrainState


def forge_report(folder, trial, epoch, metric, change):
    """Add `change` to a metric that a trial has stored for an epoch, as if it had been so."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        ((text,),) = database.execute("SELECT reports FROM trial WHERE number = ?", (trial,)).fetchall()
        reports = json.loads(text)
        (report,) = [report for report in reports if report[0] == epoch]
        report[1][metric] += change
        database.execute("UPDATE trial SET reports = ? WHERE number = ?", (json.dumps(reports), trial))


def forge_note(folder, begins, change):
    """Change the first note of a study whose key begins so, by a function that is called with its content."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        row = database.execute("SELECT key, value FROM study WHERE key >= ? ORDER BY key", (begins,)).fetchone()
        value = json.loads(row[1])
        change(value)
        database.execute("UPDATE study SET value = ? WHERE key = ?", (json.dumps(value), row[0]))


def forge_state(folder, trial, change):
    """Change the tensors of a trial's only stored state by a function of them."""
    (path,) = sorted(Path(folder / "states").glob(f"{trial:06d}-*.state"))
    state = read(path)
    write(path, TrainState(state.epoch, mapped(change, state.values)))


def scaled(factor):
    """A function that multiplies what has fractions by a factor."""
    return lambda tensor: tensor * factor if tensor.is_floating_point() else tensor


def swapped(folder, one, other):
    """Put the state of one trial in the place of another's."""
    (first,), (second,) = (sorted(Path(folder / "states").glob(f"{n:06d}-*.state")) for n in (one, other))
    state, place = read(first), read(second)
    write(second, TrainState(place.epoch, state.values))
