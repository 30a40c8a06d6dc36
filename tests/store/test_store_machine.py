"""Random operations on two stores of one study, which fail, die and come back, against plain Python objects."""

import sqlite3
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.helpers.failing_connections import Faults, Killed
from tests.helpers.fuzzing import examples
from tests.helpers.plain_store import PlainFile, PlainStore
from tuneflow.errors import StoreError
from tuneflow.history.trial import ENDED, Report, Trial
from tuneflow.store.memory import MemoryStore
from tuneflow.store.sqlite import SqliteStore

stores = st.integers(0, 1)
numbers = st.integers(0, 4)
epochs = st.integers(1, 3)
configs = st.sampled_from([{"x": 0.1}, {"x": 0.2, "y": {"a": {}}}, {}, {"x": None, "é": [1, "\x1b[1m"]}])
keys = st.sampled_from(["k", "k 1", "l"])
values = st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(0, 2) | st.floats(allow_nan=False), max_size=2)
scores = st.floats(allow_nan=False)  # inf and -inf, too; a NaN would not equal itself
reports = st.builds(
    Report,
    epochs,
    st.dictionaries(st.sampled_from(["loss", "acc"]), scores),
    st.just({}),
    scores,
    st.just(1e9),
    numbers,
)
MAY_COMMIT = ("remember", "enqueue", "next_queued", "recover", "hold", "let_go")  # what was gathered, or not
TRIAL_VERBS = ("commit", "claim", "release", "enter", "take", "seize", "exchange")  # each one transaction


def facts(trial):
    """All of a trial, with when and where it was trained, which equality leaves out."""
    return replace(trial, reports=()), [(report, report.at, report.worker) for report in trial.reports]


class KeptByKey(RuleBasedStateMachine):
    """What every store keeps, whoever else there is: numbers, the queue, and JSON by key."""

    def __init__(self):
        super().__init__()
        self.file = PlainFile()
        self.plain = [PlainStore(self.file) for _ in range(2)]

    def both(self, store, verb, *arguments):
        """Call a verb of a store and of its reference, and compare what they return; return it."""
        if verb in MAY_COMMIT:
            self.both(store, "commit")
        got = getattr(self.real[store], verb)(*arguments)
        due = getattr(self.plain[store], verb)(*arguments)
        got, due = (sorted(each) if verb in ("recover", "commit") else each for each in (got, due))
        assert got == due, f"{verb}{arguments} of store {store} gave {got}, not {due}"
        return got

    @rule(store=stores, limit=st.sampled_from([3, 5]))
    def claim(self, store, limit):
        self.both(store, "claim", limit)

    @rule(store=stores, config=configs)
    def enqueue(self, store, config):
        self.both(store, "enqueue", config)

    @rule(store=stores, number=numbers)
    def next_queued(self, store, number):
        self.both(store, "next_queued", number)

    @rule(store=stores, key=keys, value=values)
    def remember(self, store, key, value):
        self.both(store, "remember", key, value)

    @rule(store=stores, key=keys, value=values)
    def note(self, store, key, value):
        self.both(store, "note", key, value)

    @rule(store=stores, key=keys, before=values, value=values)
    def exchange(self, store, key, before, value):
        self.both(store, "exchange", key, before, value)

    @rule(store=stores, key=keys)
    def recall(self, store, key):
        self.both(store, "recall", key)

    @rule(store=stores, prefix=st.sampled_from(["k", "k 1", "l", "none"]))
    def recall_all(self, store, prefix):
        assert list(self.both(store, "recall_all", prefix)) == sorted(self.plain[store].recall_all(prefix))


class Stores(KeptByKey):
    """Two stores in one file, as two processes have them."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path, self.faults = Path(self.folder.name) / "study.sqlite", Faults()
        self.real, self.views = [None, None], [{}, {}]
        self.ended = {}
        for store in range(2):
            self.open(store)

    def open(self, store):
        with self.faults.connecting():
            self.real[store] = SqliteStore(self.path, "never")
        self.plain[store], self.views[store] = PlainStore(self.file), {}

    def teardown(self):
        for store in self.real:
            store.close()
        self.folder.cleanup()

    def has(self, store, *statuses):
        """Numbers of the trials of a store's that have one of these statuses, all that was gathered counted."""
        own = {n: row.status for n, row in self.file.rows.items() if row.owner is self.plain[store]}
        own |= {n: trial.status for kind, n, trial in self.plain[store].pending if kind == "put"}
        return [number for number, status in own.items() if status in statuses]

    def trial(self, number, **facts):
        """The trial of this number as it would be written next."""
        row = self.file.rows.get(number)
        return replace(row.trial if row and row.trial else Trial(number, {"x": 0.5}), **facts)

    # A trial's life. Where `anyone` is drawn, a number that belongs to nobody or to the other store.

    @rule(
        store=stores, data=st.data(), config=configs, once=st.booleans(), parent=st.sampled_from([None, None, (0, 1)])
    )
    def enter(self, store, data, config, once, parent):
        if claimed := self.has(store, "CLAIMED"):
            self.both(store, "enter", Trial(data.draw(st.sampled_from(claimed)), config, parent=parent), once)

    @rule(store=stores, number=numbers)
    def release(self, store, number):
        self.both(store, "release", number)

    @rule(store=stores, number=numbers)
    def take(self, store, number):
        self.both(store, "take", number)

    @rule(store=stores, number=numbers)
    def seize(self, store, number):
        self.both(store, "seize", number)

    @rule(store=stores, number=numbers, report=reports)
    def report(self, store, number, report):
        if number not in self.has(store, "CLAIMED"):
            self.both(store, "report", number, report)

    @rule(store=stores, number=numbers, after=st.integers(0, 2))
    def forget(self, store, number, after):
        self.both(store, "forget", number, after)
        self.both(store, "put", self.trial(number, status="RUNNING", epochs=after))

    @rule(
        store=stores,
        number=numbers,
        until=st.none() | epochs,
        repeats=st.none() | numbers,
        status=st.sampled_from(["RUNNING", "PAUSED"]),
    )
    def put(self, store, number, until, repeats, status):
        self.both(store, "put", self.trial(number, status=status, until=until, repeats=repeats))

    @rule(
        store=stores,
        number=numbers,
        status=st.sampled_from(ENDED),
        reported=st.lists(reports, max_size=2),
        reason=st.text(max_size=3),
    )
    def end(self, store, number, status, reported, reason):
        ending = {"reports": tuple(reported), "metrics": {"loss": 1e308}, "errors": {"loss": 0.1}, "epochs": 2}
        self.both(store, "put", self.trial(number, status=status, reason=reason, detail=reason, seconds=0.5, **ending))

    @rule(store=stores)
    def recover(self, store):
        self.both(store, "recover")

    @rule(store=stores)
    def hold(self, store):
        self.both(store, "hold")

    @rule(store=stores)
    def let_go(self, store):
        self.both(store, "let_go")

    @rule(store=stores)
    def commit(self, store):
        self.both(store, "commit")

    @rule(store=stores)
    def changes(self, store):
        """Every store sees what others changed, each trial once, as it is now."""
        got = self.real[store].changes()
        due = {trial.number: facts(trial) for trial in self.plain[store].changes()}
        seen = {trial.number: facts(trial) for trial in got}
        assert len(seen) == len(got)
        assert {number: seen.get(number) for number in due} == due
        self.views[store] |= seen
        for number, row in self.file.rows.items():
            if row.trial and row.writer is not self.plain[store] and row.changed <= self.plain[store].seen:
                assert self.views[store][number] == facts(row.as_trial())

    # What goes wrong.

    @rule(
        store=stores,
        statements=st.integers(0, 12),
        kills=st.booleans(),
        number=numbers,
        verb=st.sampled_from(TRIAL_VERBS),
        data=st.data(),
    )
    def fail(self, store, statements, kills, number, verb, data):
        """A statement of a transaction fails, or the process dies there: all of it is written, or nothing."""
        arguments = {"commit": (), "claim": (5,), "exchange": ("k", self.file.kept.get("k", {}), {"a": 1})}
        if verb == "enter":
            claimed = self.has(store, "CLAIMED")
            if not claimed:
                return
            arguments["enter"] = Trial(claimed[0], {"x": 0.2}), True
        arguments = arguments.get(verb, (number,))
        with self.faults.after(statements, kills) as faults:
            failed = self.raised(lambda: self.both(store, verb, *arguments))
        if failed and faults.committed:
            getattr(self.plain[store], verb)(*arguments)
        if failed is Killed:
            self.crash(store)

    def raised(self, action):
        """The class of the fault that ended an action; None where it came to its own end."""
        try:
            action()
        except (StoreError, Killed) as error:
            return type(error)
        return None

    @rule(store=stores, statements=st.integers(0, 3))
    def fail_to_read(self, store, statements):
        """What a failed read would have found is found by the next one."""
        with self.faults.after(statements, kills=False):
            self.raised(lambda: self.changes(store))

    @rule(store=stores)
    def crash(self, store):
        """The process is gone, with what it had gathered; a new one takes its place."""
        self.plain[store].crash()
        store_of_before, self.real[store] = weakref.ref(self.real[store]), None
        assert store_of_before() is None
        self.open(store)

    @rule(store=stores)
    def close(self, store):
        """A closed store has written everything, refuses more, and is opened again."""
        self.plain[store].close()
        self.real[store].close()
        with pytest.raises(StoreError, match="closed"):
            self.real[store].claim(5)
        self.open(store)

    # What holds at any time.

    @invariant()
    def the_file_has_what_was_committed(self):
        reader = SqliteStore(self.path, reads=True)
        try:
            got = {trial.number: facts(trial) for trial in reader.changes()}
        finally:
            reader.close()
        due = {number: facts(row.as_trial()) for number, row in self.file.rows.items() if row.trial}
        assert got == due

    @invariant()
    def ended_trials_never_change(self):
        ended = {n: facts(row.as_trial()) for n, row in self.file.rows.items() if row.trial and row.trial.ended}
        assert {number: ended.get(number) for number in self.ended} == self.ended
        self.ended = ended

    @invariant()
    def ended_trials_leave_no_live_reports(self):
        with sqlite3.connect(self.path) as db:
            rows = db.execute(f"SELECT count(*) FROM report JOIN trial ON trial = number WHERE status IN {ENDED}")
            assert rows.fetchone() == (0,)
        db.close()


class OneInMemory(KeptByKey):
    """The store of a study without a folder, which has no other beside it."""

    def __init__(self):
        super().__init__()
        self.real = [MemoryStore()] * 2
        self.plain = [self.plain[0]] * 2

    @rule(data=st.data())
    def release(self, data):
        if claimed := [number for number, row in self.file.rows.items() if row.owner]:
            self.both(0, "release", data.draw(st.sampled_from(claimed)))

    @invariant()
    def notes_count_at_once(self):
        self.plain[0].flush()


TestStores = Stores.TestCase
TestStores.settings = examples(8, stateful_step_count=30)
TestOneInMemory = OneInMemory.TestCase
TestOneInMemory.settings = examples(8, stateful_step_count=20)
