"""The verb check, on copies of a folder that are damaged on purpose."""

import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from tests.helpers.small_studies import make, trainer
from tuneflow.__main__ import main
from tuneflow.store.rows import SCORES, TRIAL, kept_row, trial_row
from tuneflow.store.sqlite import SqliteStore


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "study"
    with make(trainer=trainer(epochs=1), folder=folder) as study:
        study.run(trials=2)
    return folder


def change_a_state(folder):
    (file,) = (folder / "states").glob("*.state")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_the_pages(folder):
    file = folder / "study.sqlite"
    content = bytearray(file.read_bytes())
    content[4096:4200] = bytes(104)
    file.write_bytes(content)


def execute(statement):
    def change(folder):
        with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
            database.execute(statement)

    return change


DAMAGES = {
    "state changed": (change_a_state, "SHA-256 differs"),
    "state removed": (lambda folder: shutil.rmtree(folder / "states"), "the best, is not there"),
    "pages changed": (change_the_pages, "study.sqlite"),
    "score changed": (execute("UPDATE trial SET metrics = replace(metrics, '0.', '1.')"), "trial 0: its row is not"),
    "reports cut": (execute("UPDATE trial SET reports = substr(reports, 1, 20)"), "trial 0: its row is not"),
    "facts cut": (execute("UPDATE study SET value = '{' WHERE key = 'facts'"), "so the file is damaged"),
    "config changed": (execute("UPDATE trial SET config = replace(config, 'lr', 'ls')"), "trial 0: its row is not"),
    "value outside": (
        execute("UPDATE trial SET config = json_set(config, '$.optimizer.lr', 7)"),
        "trial 0: its row is not",
    ),
}


def stored_again(number=0, **changes):
    """Write a trial with other values, and their digest."""

    def change(folder):
        path = folder / "study.sqlite"
        with closing(SqliteStore(path, reads=True)) as store:
            trial = next(trial for trial in store.changes() if trial.number == number)
        _, *row = trial_row(replace(trial, **changes))
        columns = f"{TRIAL}, {SCORES}, digest".removeprefix("number, ")
        with closing(sqlite3.connect(path)) as database, database:
            marks = ", ".join("?" * len(row))
            database.execute(f"UPDATE trial SET ({columns}) = ({marks}) WHERE number = ?", (*row, number))

    return change


def noted(key, value):
    def change(folder):
        with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
            database.execute("INSERT INTO study VALUES (?, ?, ?)", kept_row(key, value))

    return change


def copied_state(name):
    def change(folder):
        (file,) = (folder / "states").glob("*.state")
        shutil.copy(file, file.with_name(name))

    return change


TEST = {"trial": 9, "estimates": {}, "ended": 2}
DAMAGES |= {
    "another score": (stored_again(metrics={"loss": 0.5, "accuracy": 0.5}), "metrics are not those that it reported"),
    "value beyond": (stored_again(config={"optimizer": {"lr": 7.0}}), "trial 0: its configuration is not in the space"),
    "parent beyond": (stored_again(parent=(7, 1)), "trial 0: it goes on from trial 7, which is not there"),
    "epoch beyond": (stored_again(parent=(1, 9)), "trial 0: it goes on from epoch 9 of trial 1, which has 1"),
    "repeats another": (stored_again(number=1, repeats=0), "trial 1: it repeats trial 0, which has another"),
    "a test of none": (noted("test:000009", TEST), "kept as 'test:000009' is of trial 9, which is not there"),
    "state of none": (copied_state("000009-000001.state"), "there is no trial 9, so its row is lost"),
    "state beyond": (copied_state("000000-000002.state"), "holds a state after epoch 1; it was renamed"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_check_finds_each_damage_and_ends_with_1(name, whole, tmp_path, capsys):
    damage, words = DAMAGES[name]
    folder = shutil.copytree(whole, tmp_path / "study")
    assert main(["check", str(folder)]) == 0
    damage(folder)
    assert main(["check", str(folder), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out.splitlines()[-1])["problems"]
    assert any(words in problem for problem in problems), problems


def test_what_is_sound_is_counted_after_the_first_damage(whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "study")
    execute("UPDATE trial SET reason = 'none' WHERE number = 0")(folder)
    assert main(["check", str(folder)]) == 1
    assert "1 problem; sound are 1 trial, 1 state" in capsys.readouterr().out


def test_an_export_to_a_full_device_is_an_error(whole, monkeypatch, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["export", str(whole)]) == 1
        monkeypatch.undo()
    assert "No space left on device" in capsys.readouterr().err


def test_check_changes_nothing(whole, capsys):
    files = [whole / "study.sqlite", *(whole / "states").iterdir()]
    before = [file.read_bytes() for file in files]
    assert main(["check", str(whole)]) == 0
    assert [file.read_bytes() for file in files] == before
    assert "2 trials, 1 state: nothing is wrong" in capsys.readouterr().out
