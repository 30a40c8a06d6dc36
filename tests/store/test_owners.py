"""Owners on this machine are judged by process, those elsewhere by their beats; what one is late with is dropped."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.remote_owners import REMOTE, own, rows, store_of, until
from tuneflow.errors import StoreError
from tuneflow.history.trial import Report, Trial
from tuneflow.store import sightings
from tuneflow.store.checkpoints import States
from tuneflow.store.heartbeat import Heartbeat
from tuneflow.store.owner import OwnerName, leave, lives, new_owner
from tuneflow.store.sightings import DEAD, sighting
from tuneflow.store.sqlite import SqliteStore
from tuneflow.train.job import TrainState

HERE = Path("/proc/self/ns/pid").exists()
needs_proc = pytest.mark.skipif(not HERE, reason="the system does not show namespaces")


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(sightings, "BEAT", 0.005)


@pytest.fixture
def store(tmp_path):
    with closing(SqliteStore(tmp_path / "study.sqlite")) as store:
        yield store


def claimed(store):
    """A store with a trial under way."""
    number = store.claim(9)
    store.put(Trial(number, {"x": 1.0}))
    store.commit()
    return number


def another(part, value):
    """A name that differs in one part from those of this process."""
    parts = ("host", "boot", "namespace", "pid", "started", "study")
    return "/".join(value if name == part else own for name, own in zip(parts, new_owner().split("/"), strict=True))


# Names.


@needs_proc
@pytest.mark.parametrize("part", ["host", "boot", "namespace"])
@pytest.mark.parametrize("value", ["another", ""])
def test_an_owner_of_another_machine_boot_or_namespace_is_not_judged_by_its_process(part, value):
    assert lives(another(part, value)) is None


@needs_proc
@pytest.mark.parametrize(
    ("part", "value"), [("pid", "999999999"), ("started", "1"), ("study", "999"), ("pid", "9" * 30)]
)
def test_an_owner_whose_process_is_gone_is_dead(part, value):
    assert lives(another(part, value)) is False


@pytest.mark.parametrize("owner", ["", "x", "a/b/c/d/e/f/g", "h/b/n/-1/0/0", "h/b/n/x/0/0"])
def test_a_damaged_name_is_of_nobody_here(owner):
    assert lives(owner) is None


def test_an_owner_that_left_is_dead():
    owner = new_owner()
    assert lives(owner) is True
    leave(owner)
    assert lives(owner) is False


@pytest.mark.parametrize("link", ["/proc/self", "/proc/self/ns/pid"])
def test_where_no_namespace_is_shown_only_this_process_is_judged(monkeypatch, link):
    read = os.readlink

    def hidden(path):
        if path == link:
            raise OSError("not shown")
        return read(path)

    monkeypatch.setattr("os.readlink", hidden)
    owner = new_owner()
    assert lives(owner) is True
    assert lives(another("pid", "999999999")) is None


def test_a_proc_of_another_namespace_is_not_believed(monkeypatch):
    monkeypatch.setattr("os.readlink", lambda path: "1")
    assert OwnerName.of(new_owner()).namespace == ""


# Beats.


@pytest.fixture
def clock(monkeypatch):
    """The seconds of time.monotonic, and a new name for an owner to be seen."""
    seconds = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    return seconds


def seen(clock, name, *looks):
    """What is known after looks of (seconds since the one before, beat)."""
    for after, beat in looks:
        clock[0] += after
        outcome = sighting("path", name, beat)
    return outcome


def test_an_owner_is_dead_after_so_many_beats_without_a_change(clock):
    looks = [(5, 7)] * (DEAD + 1)
    assert not seen(clock, "dead", *looks).dead
    assert seen(clock, "dead", (1, 7)).dead
    assert seen(clock, "dead", (1, 8)) == sightings.Sighting(8, clock[0], heard=True)


def test_a_long_sleep_between_two_looks_is_no_silence(clock):
    assert seen(clock, "asleep", (0, 7), (36_000, 7)).silent == 2 * sightings.BEAT


def test_an_owner_that_begins_to_beat_is_heard(clock):
    assert seen(clock, "begins", (0, None), (5, 1)).heard


@pytest.mark.usefixtures("fast")
def test_a_silent_owner_elsewhere_is_freed_and_a_beating_one_is_not(tmp_path, store):
    beating = store_of("podB", tmp_path)
    claimed(store), claimed(beating)
    own(tmp_path, 0, beat=3)
    assert store.recover() == []
    assert until(store.recover) == [(0, 1)]
    assert until(lambda: [owner for owner in store.waiting() if owner.heard])[0].trials == (1,)
    assert rows(tmp_path, "SELECT number, status, owner IS NULL FROM trial") == [(0, "PAUSED", 1), (1, "RUNNING", 0)]
    assert REMOTE not in dict(rows(tmp_path, "SELECT name, beat FROM owner"))
    beating.close()


@pytest.mark.usefixtures("fast")
def test_owners_without_trials_leave_no_rows(tmp_path, store):
    claimed(store)
    own(tmp_path, beat=1)
    own(tmp_path, owner=another("pid", "999999999"), beat=1)
    until(lambda: store.recover() == [] and len(rows(tmp_path, "SELECT * FROM owner")) == 1)


def test_a_store_that_is_closed_leaves_no_row(tmp_path):
    store = SqliteStore(tmp_path / "study.sqlite")
    claimed(store)
    until(lambda: rows(tmp_path, "SELECT * FROM owner"))
    store.close()
    assert rows(tmp_path, "SELECT * FROM owner") == []


@pytest.mark.usefixtures("fast")
def test_a_reader_sees_who_works_without_writing(tmp_path, store):
    claimed(store)
    own(tmp_path, 0)
    with closing(SqliteStore(tmp_path / "study.sqlite", reads=True)) as reader:
        assert reader.busy
        assert [(owner.owner, owner.trials) for owner in reader.waiting()] == [(REMOTE, (0,))]
        until(lambda: not reader.busy)
        assert reader.waiting() == []


@pytest.mark.usefixtures("fast")
def test_a_locked_file_delays_beats_and_raises_nothing(tmp_path, store, monkeypatch):
    monkeypatch.setattr("tuneflow.store.heartbeat.PATIENCE", 0.001)
    claimed(store)
    (before,) = until(lambda: rows(tmp_path, "SELECT beat FROM owner"))
    with closing(sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(0.05)
        db.execute("COMMIT")
    until(lambda: rows(tmp_path, "SELECT beat FROM owner") > [before])


@pytest.mark.usefixtures("fast")
def test_beats_make_no_file(tmp_path):
    heart = Heartbeat(tmp_path / "study.sqlite", "a")
    time.sleep(0.02)
    heart.stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_may_fork_while_another_thread_beats(tmp_path, store, monkeypatch):
    monkeypatch.setattr(sightings, "BEAT", 0.0)
    claimed(store)
    for _ in range(8):
        if not (child := os.fork()):
            with closing(sqlite3.connect(":memory:")) as db:
                db.execute("CREATE TABLE a (b)")
            os._exit(0)
        assert until(lambda child=child: os.waitpid(child, os.WNOHANG)[0]) == child


# Late results.


@pytest.mark.usefixtures("fast")
def test_what_a_freed_owner_writes_late_is_dropped_and_it_says_so_once(tmp_path, store, caplog):
    late = store_of("podA", tmp_path)
    number = claimed(late)
    until(lambda: rows(tmp_path, "SELECT * FROM owner"))
    assert [*store.free("podA").values()] == [[number]]
    assert store.take(number)
    store.report(number, Report(1, {"loss": 0.5}))
    store.commit()
    late.report(number, Report(1, {"loss": 9.9}))
    late.put(Trial(number, {"x": 9.9}, "DONE"))
    assert late.commit() == [number]
    (trial,) = store.changes()
    assert (trial.status, trial.config, dict(trial.reports[0].metrics)) == ("RUNNING", {"x": 1.0}, {"loss": 0.5})
    until(lambda: len(rows(tmp_path, "SELECT * FROM owner")) == 2)
    late.close()
    assert [r.message.split(";")[0].endswith("or it was freed by hand") for r in caplog.records] == [True]


@pytest.mark.usefixtures("fast")
def test_a_study_of_a_silent_holder_is_taken_over_and_its_late_notes_are_dropped(tmp_path, store):
    late = store_of("podA", tmp_path)
    assert late.hold()
    late.note("turns", {"turns": [[0, 1]]})
    late.commit()
    assert not store.hold()
    assert [(owner.holds, owner.trials) for owner in store.waiting()] == [(True, ())]
    store.free("podA")
    assert store.hold()
    store.note("turns", {"turns": [[0, 2]]})
    store.commit()
    late.note("turns", {"turns": [[0, 9]]})
    with pytest.raises(StoreError, match="another process has taken over this study"):
        late.claim(9)
    late.commit()
    assert store.recall("turns") == {"turns": [[0, 2]]}
    assert not late.hold()
    late.close()


def test_the_states_of_a_trial_that_was_taken_over_are_left_to_its_new_owner(tmp_path):
    new, late = States(tmp_path), States(tmp_path)
    late.put(0, TrainState(1, {}))
    late.flush(0)
    late.put(0, TrainState(2, {}))
    late.keep(0, ())
    late.leave(0)
    late.sweep()
    assert late.epochs(0) == new.epochs(0) == {1}


@needs_proc
def test_an_owner_that_runs_here_is_not_freed_by_hand(tmp_path, store):
    claimed(store)
    here = pytest.raises(StoreError, match=r"\(process \d+\) runs on this machine; end that process")
    with closing(SqliteStore(tmp_path / "study.sqlite")) as other, here:
        other.free(OwnerName.of(new_owner()).host)
