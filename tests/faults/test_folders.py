"""Folders that are moved, copied, read-only or deleted, at rest and under a run."""

import os
import shutil
import signal

import pytest

import tuneflow as tn
from tests.faults.small_trainings import ended_with, finished, make, outcome, run
from tuneflow.study.folder_check import check_folder

NOBODY = 65534


def begin(folder):
    """The first trial and a part of the second, closed."""
    with make(folder) as study:
        study.run(epochs=4, trials=2)


def test_a_moved_folder_goes_on_where_it_was(tmp_path, whole):
    begin(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert finished(tmp_path / "there") == whole


def test_a_copied_folder_is_a_study_of_its_own(tmp_path, whole):
    begin(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert finished(tmp_path / "other") == whole
    assert len(tn.open(tmp_path / "one").trials) == 2
    assert finished(tmp_path / "one") == whole


def run_until_the_second_trial(folder):
    def die(study, trial):
        if trial.number == 1 and trial.epochs == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, callbacks=[die])


def test_a_folder_that_is_copied_or_moved_after_a_kill_goes_on_with_its_trial(tmp_path, start, whole):
    assert ended_with(start(run_until_the_second_trial, tmp_path / "one")) == -signal.SIGKILL
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert finished(tmp_path / "other") == whole
    assert finished(tmp_path / "moved") == whole


# Read-only.


def refuse_to_write(folder):
    """As a user who may not write the folder: what is read, and the message of who wants to write."""
    if os.geteuid() == 0:  # whom no mode of a file binds
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    trials = [(t.number, t.status, t.epochs) for t in tn.open(folder).trials]
    problems = check_folder(folder).problems
    try:
        make(folder)
    except tn.errors.StoreError as error:
        return trials, problems, str(error)
    return trials, problems, ""


def test_a_folder_that_may_only_be_read_is_read_and_not_written(tmp_path, whole):
    folder = tmp_path / "study"
    begin(folder)
    parents = [part for part in tmp_path.parents if part.stat().st_uid == os.getuid() and part.stat().st_mode & 1 == 0]
    modes = {part: part.stat().st_mode for part in (tmp_path, *parents, folder, folder / "states")}
    try:
        for part in modes:
            part.chmod(0o555)
        trials, problems, said = outcome(refuse_to_write, folder)
    finally:
        for part, mode in modes.items():
            part.chmod(mode)
    assert trials == [(0, "DONE", 3), (1, "PAUSED", 1)]
    assert problems == ()
    assert str(folder) in said
    assert "may not write" in said
    assert finished(folder) == whole


# Under a run.


def delete(folder):
    shutil.rmtree(folder)


def delete_the_database(folder):
    for file in folder.glob("study.sqlite*"):
        file.unlink()


def empty_the_database(folder):
    """Its shared memory apart: a process that has it mapped would be killed by SIGBUS, wherever it is."""
    for name in ("study.sqlite", "study.sqlite-wal"):
        os.truncate(folder / name, 0)


def replace_the_database(folder):
    run(folder.with_name("another"), trials=1)
    delete_the_database(folder)
    shutil.copy(folder.with_name("another") / "study.sqlite", folder / "study.sqlite")


def rename(folder):
    folder.rename(folder.with_name("renamed"))


UNDER_A_RUN = [delete, delete_the_database, empty_the_database, replace_the_database, rename]


def run_meanwhile(folder, change):
    """The message with which a run ends whose folder is changed in its second trial; None where it ends well."""

    def once(study, trial):
        if trial.number == 1 and trial.epochs == 1:
            change(folder)

    try:
        run(folder, callbacks=[once])
    except tn.errors.StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("change", UNDER_A_RUN, ids=lambda change: change.__name__)
def test_a_database_that_is_gone_under_a_run_ends_it_with_an_error_that_names_it(tmp_path, change):
    folder = tmp_path / "study"
    said = outcome(run_meanwhile, folder, change)
    assert isinstance(said, str), said
    assert str(folder) in said
    assert "remove the folder" not in said


def test_a_folder_of_states_that_is_deleted_under_a_run_is_named_or_made_again(tmp_path, whole):
    folder = tmp_path / "study"
    said = outcome(run_meanwhile, folder, lambda folder: shutil.rmtree(folder / "states"))
    assert said is None or str(folder / "states") in said
    with make(folder) as study:
        study.run(trials=4)
        assert [row[:5] for row in facts_without_weights(study)] == [row[:5] for row in whole]


def facts_without_weights(study):
    return [
        (t.number, t.config, t.status, dict(t.metrics), [(r.epoch, dict(r.metrics), dict(r.errors)) for r in t.reports])
        for t in study.trials
    ]


def test_an_empty_database_beside_states_is_refused_and_nothing_is_overwritten(tmp_path):
    begin(tmp_path)
    before = {file.name: file.read_bytes() for file in (tmp_path / "states").iterdir()}
    os.truncate(tmp_path / "study.sqlite", 0)
    for file in tmp_path.glob("study.sqlite-*"):
        file.unlink()
    with pytest.raises(tn.errors.StoreError, match=r"study\.sqlite"):
        make(tmp_path)
    (tmp_path / "study.sqlite").unlink()
    with pytest.raises(tn.errors.StoreError, match=r"study\.sqlite"):
        make(tmp_path)
    assert {file.name: file.read_bytes() for file in (tmp_path / "states").iterdir()} == before
