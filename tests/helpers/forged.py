"""Forgeries of a study's folder that its store accepts: changed reports, and changed states with right digests."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tuneflow.nested import mapped
from tuneflow.store.checkpoints import read, write
from tuneflow.store.rows import SCORES, TRIAL, kept_row, trial_of, trial_row
from tuneflow.train.job import TrainState

COLUMNS = f"{TRIAL}, {SCORES}"


def forge_report(folder, number, epoch, metric, change):
    """Add `change` to a metric that a trial has stored for an epoch, as if it had been so."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        row = database.execute(f"SELECT {COLUMNS}, digest FROM trial WHERE number = ?", (number,)).fetchone()
        trial = trial_of(folder, row)
        reports = [
            replace(each, metrics={**each.metrics, metric: each.metrics[metric] + change})
            if each.epoch == epoch
            else each
            for each in trial.reports
        ]
        values = trial_row(replace(trial, reports=reports))
        marks = ", ".join("?" * len(values))
        database.execute(f"UPDATE trial SET ({COLUMNS}, digest) = ({marks}) WHERE number = ?", (*values, number))


def forge_note(folder, begins, change):
    """Change the first note of a study whose key begins so, by a function that is called with its content."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        key, text = database.execute("SELECT key, value FROM study WHERE key >= ? ORDER BY key", (begins,)).fetchone()
        value = json.loads(text)
        change(value)
        database.execute("UPDATE study SET value = ?, digest = ? WHERE key = ?", (*kept_row(key, value)[1:], key))


def forge_state(folder, trial, change, kind="states"):
    """Change the tensors of a trial's only stored state by a function of them."""
    (path,) = sorted(Path(folder / kind).glob(f"{trial:06d}-*.state"))
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
