"""The verb check, on copies of a folder that are damaged on purpose."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.helpers.small_studies import make, trainer
from tuneflow.__main__ import main


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


@pytest.mark.parametrize("name", DAMAGES)
def test_check_finds_each_damage_and_ends_with_1(name, whole, tmp_path, capsys):
    damage, words = DAMAGES[name]
    folder = shutil.copytree(whole, tmp_path / "study")
    assert main(["check", str(folder)]) == 0
    damage(folder)
    assert main(["check", str(folder), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out.splitlines()[-1])["problems"]
    assert any(words in problem for problem in problems), problems


def test_check_changes_nothing(whole, capsys):
    files = [whole / "study.sqlite", *(whole / "states").iterdir()]
    before = [file.read_bytes() for file in files]
    assert main(["check", str(whole)]) == 0
    assert [file.read_bytes() for file in files] == before
    assert "2 trials, 1 state: nothing is wrong" in capsys.readouterr().out
