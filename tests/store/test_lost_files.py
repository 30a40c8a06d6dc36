"""Files of studies that are emptied, removed or replaced: refused by name, and nothing is written over what is left."""

import os
import shutil
import time

import pytest

import tuneflow as tn
from tuneflow.errors import StoreError
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study import archive

SPACE = tn.SearchSpace(x=tn.Choice([0, 1, 2]))
BACKUP = "Restore it from a backup, or use another folder"


def tuned(folder, function=lambda x: x, trials=3):
    return tn.minimize(function, SPACE, trials=trials, searcher=tn.Grid(), folder=folder)


def asked(folder):
    with tn.Study(space=SPACE, minimize="value", folder=folder, progress=False) as study:
        study.tell(study.ask(), 1.0)


def emptied(folder):
    os.truncate(folder / "study.sqlite", 0)


def removed(folder):
    for file in folder.glob("study.sqlite*"):
        file.unlink()


def replaced(folder):
    shutil.copy(folder / "study.sqlite", folder / "copy")
    os.replace(folder / "copy", folder / "study.sqlite")


def renamed(folder):
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("way", [tuned, tn.open], ids=["minimize", "open"])
@pytest.mark.parametrize("lose", [emptied, removed], ids=["emptied", "removed"])
def test_a_lost_file_beside_states_is_refused_and_not_begun_anew(lose, way, tmp_path):
    asked(tmp_path)
    (tmp_path / "states" / "000001-000001.state").write_bytes(b"a state")
    lose(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=rf"study.sqlite: is .*states holds 1 state of its study\. {BACKUP}"):
        way(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_absent_beside_its_log_is_refused(tmp_path):
    (tmp_path / "study.sqlite-wal").write_bytes(b"a log")
    with pytest.raises(StoreError, match=r"study.sqlite-wal is a log of its study"):
        tuned(tmp_path)


LOSSES = {
    "emptied": (emptied, "was emptied while its study runs"),
    "removed": (removed, "was removed while its study runs, or its folder was renamed. Put it back"),
    "replaced": (replaced, "was replaced by another file while its study runs"),
    "renamed": (renamed, "was removed while its study runs, or its folder was renamed. Put it back"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_file_that_is_lost_while_a_study_runs_ends_it(loss, tmp_path):
    lose, words = LOSSES[loss]
    folder = tmp_path / "study"

    def loses(x):
        if x == 1:
            lose(folder)
        return x

    with pytest.raises(StoreError, match=f"study.sqlite: {words}"):
        tuned(folder, loses)


def test_a_study_and_who_reads_it_leave_the_file_alone_behind(tmp_path):
    asked(tmp_path)
    assert len(tn.open(tmp_path).trials) == 1
    assert sorted(os.listdir(tmp_path)) == ["states", "study.sqlite"]


@pytest.mark.parametrize(("seconds", "open_elsewhere"), [(0.0, True), (100.0, True), (0.0, False)])
def test_settings_of_a_new_study_that_another_process_makes_are_waited_for(
    seconds, open_elsewhere, tmp_path, monkeypatch
):
    store = SqliteStore(tmp_path / "study.sqlite")
    if not open_elsewhere:
        store.close()
    os.utime(tmp_path / "study.sqlite", (time.time() - seconds,) * 2)
    waits = []
    monkeypatch.setattr(archive, "NEW", 0.1)
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(StoreError, match=r"has no settings yet: .* Run its script again to go on"):
        tn.open(tmp_path)
    assert bool(waits) == (open_elsewhere and seconds == 0.0)
    store.close()


@pytest.mark.parametrize("linking", [True, False], ids=["links", "no links"])
def test_of_two_that_make_a_file_at_once_the_second_takes_the_first_ones(linking, tmp_path, monkeypatch):
    def link(source, target):
        monkeypatch.undo()
        tuned(tmp_path, trials=2)  # the other one
        if linking:
            os.link(source, target)
        raise PermissionError("no links")

    monkeypatch.setattr(os, "link", link)
    tuned(tmp_path)
    assert len(tn.open(tmp_path).trials) == 3
