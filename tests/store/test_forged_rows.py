"""Rows with a right digest and wrong values, as a stranger may write them: refused by the number of their trial."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

import tuneflow as tn
from tuneflow.errors import StoreError
from tuneflow.store import sightings
from tuneflow.store.rows import SCORES, TRIAL, digest_of
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study.folder_check import check_folder

COLUMNS = f"{TRIAL}, {SCORES}".split(", ")
HUGE = "1" + "0" * 400
ROWS = {  # column: a value of another kind
    "a score that no float holds": ("metrics", f'{{"value": {HUGE}}}', "too large"),
    "a flag for a score": ("metrics", '{"value": true}', "needs to be a number, got bool"),
    "an error that no float holds": ("errors", f'{{"value": {HUGE}}}', "too large"),
    "endless seconds": ("seconds", float("inf"), "a time needs to be finite"),
    "seconds of letters": ("seconds", "long", "a time needs to be a number, got str"),
    "epochs below none": ("epochs", -5, "needs a whole number"),
    "epochs of letters": ("epochs", "many", "needs a whole number, got str"),
    "until of letters": ("until", "late", "needs a whole number, got str"),
    "no reason": ("reason", None, "needs a text, got NoneType"),
    "bytes for a reason": ("reason", b"\xff\0", "needs a text, got bytes"),
}
REPORTS = {  # a report's place: a value of another kind
    "an epoch that no file holds": (0, 10**400),
    "half an epoch": (0, 1.5),
    "a score that no float holds": (1, {"value": 10**400}),
    "seconds that no float holds": (3, 10**400),
    "a time without end": (4, float("inf")),
    "half a worker": (5, 0.5),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forged")
    tn.minimize(lambda x: x, tn.SearchSpace(x=tn.Float(0, 1)), trials=2, folder=folder)
    return folder


def forged(made, folder, column, value, **others):
    """Return a copy of a study in which trial 1 has another value, and the digest of its row is right."""
    shutil.copytree(made, folder)
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as database:
        row = database.execute(f"SELECT {', '.join(COLUMNS)} FROM trial WHERE number = 1").fetchone()
        values = {column: value, **others}
        row = tuple(values.get(name, old) for name, old in zip(COLUMNS, row, strict=True))
        marks = ", ".join("?" * (len(row) + 1))
        update = f"UPDATE trial SET ({', '.join(COLUMNS)}, digest) = ({marks}) WHERE number = 1"
        database.execute(update, (*row, digest_of(row)))
    return folder


@pytest.mark.parametrize("kind", ROWS)
def test_a_value_of_another_kind_is_refused_by_its_trial(kind, made, tmp_path):
    column, value, words = ROWS[kind]
    folder = forged(made, tmp_path / "study", column, value)
    with pytest.raises(StoreError, match=rf"trial 1: its row cannot be read \(.*{words}"):
        tn.open(folder)
    assert any("trial 1: its row cannot be read" in problem for problem in check_folder(folder).problems)


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_of_another_kind_is_refused_by_its_trial(kind, made, tmp_path):
    place, value = REPORTS[kind]
    report = [1, {"value": 0.5}, {}, 0.1, 0.0, 0]
    report[place] = value
    folder = forged(made, tmp_path / "study", "reports", json.dumps([report]))
    with pytest.raises(StoreError, match="trial 1: its reports cannot be read"):
        tn.open(folder).report(tmp_path / "page.html")
    assert any("trial 1: its reports cannot be read" in problem for problem in check_folder(folder).problems)


def test_whole_scores_are_read_as_floats(made, tmp_path):
    folder = forged(made, tmp_path / "study", "metrics", '{"value": 100000000000000000000}')
    assert type(tn.open(folder).trials[1].metrics["value"]) is float


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER late AFTER UPDATE ON trial BEGIN UPDATE trial SET owner = NULL; END",
        "CREATE VIEW late AS SELECT * FROM trial",
    ],
    ids=["a trigger", "a view"],
)
def test_what_may_act_in_the_file_is_refused(statement, made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "study")
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as database:
        database.execute(statement)
    with pytest.raises(StoreError, match="holds late, which tuneflow did not make"):
        tn.open(folder)


@pytest.mark.parametrize("score", [1e308, -1e308])
def test_the_largest_floats_are_shown_without_warnings(score, made, tmp_path):
    folder = forged(made, tmp_path / "study", "metrics", json.dumps({"value": score}), errors='{"value": 1e308}')
    archive = tn.open(folder)
    assert archive.best.number in (0, 1)
    assert archive.report(tmp_path / "page.html").stat().st_size
    assert archive.advice() is not None


CHANGES = {
    "a change that is no number": (
        "UPDATE trial SET changed = 'late' WHERE number = 1",
        "trial 1: its row has no place among the changes",
    ),
    "a queued configuration": (
        "INSERT INTO queue (config, digest) VALUES ('{}', x'00')",
        "a queued configuration is not what was written",
    ),
}


def changed(made, folder, statement):
    shutil.copytree(made, folder)
    with closing(sqlite3.connect(folder / "study.sqlite", isolation_level=None)) as database:
        database.execute(statement)
    return folder


@pytest.mark.parametrize("kind", CHANGES)
def test_a_check_names_what_no_digest_of_a_trial_is_of(kind, made, tmp_path):
    statement, words = CHANGES[kind]
    folder = changed(made, tmp_path / "study", statement)
    assert any(words in problem for problem in check_folder(folder).problems)


def test_an_owner_of_bytes_is_waited_for_as_any_other(made, tmp_path, monkeypatch):
    folder = changed(made, tmp_path / "study", "INSERT INTO owner VALUES (x'00ff', 3)")
    with closing(SqliteStore(folder / "study.sqlite")) as store:
        assert store.recover() == []
        monkeypatch.setattr(sightings, "DEAD", -1)  # it has been silent for long enough
        assert store.recover() == []
    with closing(sqlite3.connect(folder / "study.sqlite")) as database:
        assert database.execute("SELECT * FROM owner").fetchall() == []
