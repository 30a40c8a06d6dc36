"""A file is written whole or not at all, whatever lies at its name, and leftovers go only with their writers."""

import fcntl
import os
import stat

import pytest

from tuneflow.errors import StoreError
from tuneflow.store import atomic_file
from tuneflow.store.atomic_file import remove_leftovers, write_bytes
from tuneflow.store.checkpoints import States


@pytest.fixture
def away(tmp_path):
    """A file of somebody else's, which links point to."""
    file = tmp_path / "away"
    file.write_text("theirs")
    yield file
    assert file.read_text() == "theirs"


def test_a_link_at_the_final_name_is_replaced_and_not_followed(tmp_path, away):
    path = tmp_path / "best.pt"
    path.symlink_to(away)
    write_bytes(path, b"ours")
    assert (path.is_symlink(), path.read_bytes()) == (False, b"ours")


def test_what_lies_at_the_temporary_name_is_left_as_it_is(tmp_path, away, monkeypatch):
    names = iter(["taken", "linked", "free"])
    monkeypatch.setattr(atomic_file.secrets, "token_hex", lambda size: next(names))
    (tmp_path / "best.pt.linked.tmp").symlink_to(away)
    (tmp_path / "best.pt.taken.tmp").write_text("before")
    write_bytes(tmp_path / "best.pt", b"ours")
    assert (tmp_path / "best.pt.taken.tmp").read_text() == "before"
    assert (tmp_path / "best.pt").read_bytes() == b"ours"
    assert len(os.listdir(tmp_path)) == 4


def test_a_new_file_has_the_mode_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "best.pt", b"ours")
    assert len({stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "best.pt"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to(os.devnull)}[kind]()
    with pytest.raises(StoreError, match="it is no file"):
        write_bytes(path, b"ours")
    assert os.listdir(tmp_path) == ["best.pt"]


def test_leftovers_of_dead_writers_are_removed_and_those_under_way_stay(tmp_path, away):
    dead, written, linked, other = (tmp_path / f"{name}.tmp" for name in ("7-dead", "7-written", "7-linked", "8-dead"))
    for file in (dead, written, other):
        file.touch()
    linked.symlink_to(away)
    os.mkfifo(tmp_path / "7-pipe.tmp")
    with written.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        remove_leftovers(tmp_path, "7-")
    assert sorted(os.listdir(tmp_path)) == ["7-linked.tmp", "7-pipe.tmp", "7-written.tmp", "8-dead.tmp", "away"]


def test_a_file_is_locked_while_it_is_written(tmp_path, monkeypatch):
    kept = []

    def interrupted(descriptor):
        remove_leftovers(tmp_path, "best")
        kept.extend(os.listdir(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_file.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "best.pt", b"ours")
    assert len(kept) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "-1",
        "0000001-000001",
        "000001-0000001",
        "\u0661\u0662\u0663\u0664\u0665\u0666-000001",
        "9" * 200 + "-000001",
        "x",
    ],
)
def test_names_that_a_study_does_not_give_are_no_states(tmp_path, name):
    (tmp_path / f"{name}.state").touch()
    states = States(tmp_path)
    assert not any(states.epochs(number) for number in (-1, 0, 1, 123456))
    states.keep(1, [])
    states.sweep()
    assert len(os.listdir(tmp_path)) == 1
