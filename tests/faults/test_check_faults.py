"""`check --faults`: what is sound is said to be, what is not is named, and nothing is left behind."""

import json

import pytest

from tests.faults.small_trainings import finished, make
from tuneflow.__main__ import main
from tuneflow.store.fault_check import CHECKS


def test_the_file_system_of_tests_is_sound_and_a_study_in_the_folder_is_left_alone(tmp_path, capsys, whole):
    with make(tmp_path) as study:
        study.run(epochs=4, trials=2)
        before = sorted(tmp_path.rglob("*"))
        assert main(["check", str(tmp_path), "--faults"]) == 0
        assert sorted(tmp_path.rglob("*")) == before
    *rows, last = capsys.readouterr().out.splitlines()
    assert [row[:4] for row in rows] == ["ok  "] * len(CHECKS)
    assert last == "safe for several processes on this machine: yes; for several machines: not tested here"
    assert finished(tmp_path) == whole


def test_a_folder_that_is_not_there_is_made_and_removed(tmp_path, capsys):
    assert main(["check", str(tmp_path / "runs" / "digits"), "--faults", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["safe"] is True
    assert [check["name"] for check in facts["checks"]] == list(CHECKS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_place_where_no_folder_can_be_is_refused(tmp_path, capsys, name):
    (tmp_path / "file").touch()
    assert main(["check", str(tmp_path / name), "--faults"]) == 1
    assert "its file system cannot be checked" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
