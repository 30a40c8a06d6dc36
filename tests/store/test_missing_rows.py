"""Rows that vanish from study.sqlite are missed, though nothing of the others is damaged."""

import sqlite3
from contextlib import closing

import pytest

import tuneflow as tn
from tuneflow.errors import StoreError

SPACE = tn.SearchSpace(x=tn.Float(0, 1))


def functions(folder):
    tn.minimize(lambda x: x, SPACE, trials=30, folder=folder)


def under_way(folder):
    study = tn.Study(space=SPACE, minimize="value", folder=folder, progress=False)
    for count in range(4):
        trial = study.ask()
        for epoch in range(count):
            study.tell(trial, float(epoch), done=False)


REMOVED = {
    "a trial that is called a claim": (
        functions,
        "UPDATE trial SET status = 'CLAIMED' WHERE number = 3",
        "trial 3: its row is called CLAIMED, and holds a trial",
    ),
    "a trial": (functions, "DELETE FROM trial WHERE number = 3", "rows of 30 trials|rows of 29 trials"),
    "a report": (
        under_way,
        "DELETE FROM report WHERE trial = 3 AND epoch = 2",
        "trial 3: its reports are not all there",
    ),
    "the last report": (
        under_way,
        "DELETE FROM report WHERE trial = 3 AND epoch = 3",
        "trial 3: its reports are not all",
    ),
}


@pytest.mark.parametrize("what", REMOVED)
def test_a_row_that_vanishes_is_noticed(what, tmp_path):
    make, statement, words = REMOVED[what]
    make(tmp_path)
    with closing(sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None)) as database:
        database.execute(statement)
    with pytest.raises(StoreError, match=words):
        tn.open(tmp_path)
