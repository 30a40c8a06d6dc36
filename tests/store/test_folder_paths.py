"""A study's folder stays the same one, and a path that cannot be a folder is refused by name."""

import json
import os
import sqlite3
from contextlib import closing

import pytest

import tuneflow as tn
from tuneflow.errors import StoreError, StudyError

SPACE = tn.SearchSpace(x=tn.Float(-1.0, 1.0))


def square(x):
    return x * x


def tuned(folder):
    return tn.minimize(square, SPACE, trials=2, folder=folder)


def test_a_relative_folder_is_the_one_of_the_time_when_the_study_was_made(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study = tn.Study(space=SPACE, minimize="value", folder="kept", progress=False)
    monkeypatch.chdir(tmp_path / "there")
    trial = study.ask()
    study.tell(trial, 1.0)
    study.close()
    assert len(tn.open(tmp_path / "here" / "kept").trials) == 1
    assert os.listdir(".") == []


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nothing", "states is a file"])
def test_what_is_no_folder_is_named_and_left_as_it_is(tmp_path, kind):
    path = tmp_path / "place"
    if kind == "link to nothing":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "states is a file":
        path.mkdir()
        (path / "states").touch()
    else:
        path.touch()
    with pytest.raises(StoreError, match=r"place.*cannot be used as a study's folder"):
        tuned(path / "below" if kind == "below a file" else path)
    assert not (path / "study.sqlite").exists()


@pytest.mark.parametrize("path", ["", b"runs", "with\0nul"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises((TypeError, ValueError), match="needs to be a path"):
        tuned(path)


def test_metrics_in_exported_lines_stand_beside_the_times_of_their_report(tmp_path):
    def named_like_times(x):
        return {"value": x, "at": 7.0, "worker": 3.5, "epoch": 9.0}

    tn.minimize(named_like_times, SPACE, trials=1, folder=tmp_path)
    _, trial = map(json.loads, tn.open(tmp_path).lines())
    (report,) = trial["reports"]
    assert report["metrics"] == trial["metrics"]
    assert (report["epoch"], report["worker"]) == (1, 0)


def test_minimize_closes_its_study(tmp_path):
    best = tuned(tmp_path)
    assert [file.name for file in tmp_path.glob("study.sqlite*")] == ["study.sqlite"]  # nothing has it open
    assert repr(best).startswith("trial ")
    with pytest.raises(StudyError, match="square is a plain function, so there is no model"):
        best.model()


def test_a_changed_byte_in_the_objective_is_damage(tmp_path):
    tuned(tmp_path)
    with closing(sqlite3.connect(tmp_path / "study.sqlite")) as database:
        database.execute("UPDATE study SET value = replace(value, '\"value\"', '\"valve\"')")
        database.commit()
    with pytest.raises(StoreError, match=r"'facts' is not what was written, so the file is damaged; .* check"):
        tn.open(tmp_path)


def test_a_file_in_a_missing_folder_is_refused_by_the_folder(tmp_path):
    tuned(tmp_path / "study")
    with pytest.raises(StoreError, match=r"page.html: cannot be written \(there is no folder .*missing\)"):
        tn.open(tmp_path / "study").report(tmp_path / "missing" / "page.html")
