"""Backups: a copy of a study in use passes the check, and goes on as a study of its own."""

import os

import pytest

import tuneflow as tn
from tests.helpers.small_studies import make, trainer
from tuneflow.__main__ import main
from tuneflow.errors import StoreError
from tuneflow.study import backup
from tuneflow.study.backup import back_up

SPACE = tn.SearchSpace(x=tn.Float(0, 1))


def table(folder):
    return [(trial.number, trial.config, dict(trial.metrics)) for trial in tn.open(folder).trials]


def test_a_copy_has_the_trials_and_the_model_and_passes_the_check(tmp_path, capsys):
    with make(trainer=trainer(epochs=1), folder=tmp_path / "study") as study:
        study.run(trials=2)
        assert main(["export", str(tmp_path / "study"), "--backup", str(tmp_path / "copy")]) == 0
        assert "copy: 2 trials, 1 state: nothing is wrong" in capsys.readouterr().out
        assert table(tmp_path / "copy") == table(tmp_path / "study")
    with make(trainer=trainer(epochs=1), folder=tmp_path / "copy") as copy:
        assert copy.best.number == study.best.number
        assert copy.best.model() is not None


def test_trials_under_way_are_free_in_the_copy(tmp_path):
    study = tn.Study(space=SPACE, minimize="value", folder=tmp_path / "study", progress=False)
    asked = study.ask()
    study.tell(asked, 1.0, done=False)
    back_up(tmp_path / "study", tmp_path / "copy")
    with tn.Study(space=SPACE, minimize="value", folder=tmp_path / "copy", progress=False) as copy:
        assert copy.trials[0].status == "PAUSED"
        assert copy.tell(copy.ask(), 0.5) is not None
    assert study.tell(asked, 0.5) is not None


def test_what_is_removed_while_it_is_copied_is_copied_again(tmp_path, monkeypatch):
    with make(trainer=trainer(epochs=1), folder=tmp_path / "study") as study:
        study.run(trials=1)
    (state,) = (tmp_path / "study" / "states").iterdir()
    real, places = backup.database_copy, [tmp_path / "away", state]

    def copied(path):
        content, count = real(path)
        (state if state.exists() else tmp_path / "away").rename(places.pop(0))
        return content, count

    monkeypatch.setattr(backup, "database_copy", copied)
    assert back_up(tmp_path / "study", tmp_path / "copy").problems == ()
    assert places == []


@pytest.mark.parametrize("kind", ["a pipe", "a symbolic link"])
def test_what_is_no_file_of_the_study_is_neither_waited_for_nor_copied(tmp_path, kind):
    with make(trainer=trainer(epochs=1), folder=tmp_path / "study") as study:
        study.run(trials=1)
    state = tmp_path / "study" / "states" / "000000-000009.state"
    if kind == "a pipe":
        os.mkfifo(state)
    else:
        (tmp_path / "other").write_text("not of the study")
        state.symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match=f"000000-000009.state: is {kind}"):
        back_up(tmp_path / "study", tmp_path / "copy")


def test_a_backup_lies_outside_of_its_study(tmp_path):
    tn.minimize(lambda x: x, SPACE, trials=1, folder=tmp_path / "study")
    with pytest.raises(StoreError, match="inside: lies in the study's own folder; give a folder outside of it"):
        back_up(tmp_path / "study", tmp_path / "study" / "inside")
    assert not (tmp_path / "study" / "inside").exists()


def test_a_backup_needs_a_folder_of_its_own(tmp_path):
    tn.minimize(lambda x: x, SPACE, trials=2, folder=tmp_path / "study")
    with pytest.raises(
        StoreError, match=r"study: is not empty \(it has .*study.sqlite.*\); a backup needs a folder of its own"
    ):
        back_up(tmp_path / "study", tmp_path / "study")
    with pytest.raises(StoreError, match="holds no study"):
        back_up(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
