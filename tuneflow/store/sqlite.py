"""A store in one SQLite file, which several processes may share."""

import json
import sqlite3
import time
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tuneflow.errors import StoreError
from tuneflow.history.trial import ENDED, Report, Trial
from tuneflow.store.connection import open_to_read, open_to_write
from tuneflow.store.open_file import OpenFile
from tuneflow.store.owner import OwnerName, lives
from tuneflow.store.ownership import NEXT, Freed, Ownership, RemoteOwner
from tuneflow.store.rows import (
    REPORT,
    SCORES,
    TRIAL,
    kept_row,
    kept_value,
    queue_row,
    queued_config,
    report_row,
    reports_of,
    trial_of,
    trial_row,
)
from tuneflow.store.sqlite_errors import FAILURES, damaged, not_done

REPLACE = "INSERT OR REPLACE INTO study VALUES (?, ?, ?)"
NOTE = -1  # stands for a trial's number in a write that concerns none
LAST = "(SELECT max(epoch) FROM report WHERE report.trial = trial.number)"  # what a trial has reported
ORPHAN = "(SELECT min(number) FROM trial INDEXED BY orphans WHERE owner IS NULL AND status = 'CLAIMED')"

TAKEN_OVER = (
    "another process has taken over this study, as this one showed no sign of life for long, or was freed by hand;"
    " run it again and it goes on when that has ended."
)

Durable = Literal["end", "always", "never"]

SHORT = 0.01  # seconds: the ends of trials that took less wait this long for one another, and for one sync


class Write(NamedTuple):
    """A statement that waits for the next commit.

    Attributes:
        trial: the trial that it concerns, or NOTE.
        own: where it changes no row, the trial was taken over by another process.
        statement: the SQL.
        row: its values.
    """

    trial: int
    own: bool
    statement: str
    row: tuple[Any, ...]


class SqliteStore:
    """A store in the file `path`, which is made when it is not there.

    Args:
        path: the file.
        durable: what is synced to the disk when a commit returns: "end" the end of every trial, "always" every commit,
            "never" none. A crash of the process loses nothing in any case; a crash of the machine loses what was not
            synced. With "end", trials that took less than 10 ms are synced together, once in 10 ms.
        reads: only read, and change nothing.

    Raises:
        StoreError: the file cannot be opened, is no tuneflow store, or was written by a newer or older tuneflow.
    """

    def __init__(self, path: Path, durable: Durable = "end", reads: bool = False) -> None:
        self._path, self._durable = path, durable
        self._owners = Ownership(path, self._run, self._transaction)
        self._owner = self._owners.name
        self._pending: list[Write] = []
        self._lost: list[int] = []
        self._urgent = self._ends = False  # what is pending holds the end of a trial that took long, or of any
        self._synced = 0.0
        self._reported: set[int] = set()  # this process's trials that have rows in the table of live reports
        self._seen, self._version, self._full = 0, -1, False
        self._read = False  # all trials were read once; later calls of `changes` leave out those of this process
        self._db = self._connect(reads)
        weakref.finalize(self, self._db.close).atexit = False  # in garbage it may come before its store
        self._file = OpenFile.at(path)

    def _connect(self, reads: bool) -> sqlite3.Connection:
        return open_to_read(self._path) if reads else open_to_write(self._path)

    def describe(self, facts: dict[str, Any]) -> dict[str, Any]:
        return self.remember("facts", facts)

    def remember(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        with self._transaction():
            self._run("INSERT OR IGNORE INTO study VALUES (?, ?, ?)", kept_row(key, value))
        return self.recall(key) or {}

    def recall(self, key: str) -> dict[str, Any] | None:
        kept = self._kept("key = ?", key)
        return kept.get(key)

    def recall_all(self, prefix: str) -> dict[str, dict[str, Any]]:
        return self._kept("substr(key, 1, ?) = ? ORDER BY key", len(prefix), prefix)

    def _kept(self, condition: str, *values: Any) -> dict[str, dict[str, Any]]:
        kept = {}
        for key, text, digest in self._run(f"SELECT key, value, digest FROM study WHERE {condition}", values):
            with self._sound():
                kept[key] = kept_value(self._path, key, text, digest)
        return kept

    @contextmanager
    def _sound(self) -> Generator[None]:
        """A block that reads a row, which raises where it is damaged; `SoundRows` reads on."""
        yield

    def note(self, key: str, value: dict[str, Any]) -> None:
        self._pending = [write for write in self._pending if write[:2] != (NOTE, False) or write.row[0] != key]
        self._later(NOTE, False, REPLACE, kept_row(key, value))

    def exchange(self, key: str, before: dict[str, Any], value: dict[str, Any]) -> bool:
        with self._transaction():
            if same := self.recall(key) == before:
                self._run(REPLACE, kept_row(key, value))
        return same

    def hold(self) -> bool:
        self._owners.begin()
        with self._transaction():
            return self._owners.hold()

    def let_go(self) -> None:
        self._owners.let_go()

    def changes(self) -> list[Trial]:
        version = self._run("PRAGMA data_version")[0][0]
        if version == self._version:
            return []
        with self._snapshot():
            rows = self._changed_rows() if self._read else self._all_rows()
            trials = self._trials(row[1:] for row in rows)
        self._seen, self._version = max([self._seen, *(row[0] for row in rows)]), version  # unless reading failed
        self._read = True
        return trials

    def _all_rows(self) -> list[Any]:
        """Return the rows of all trials, the latest change last, by the table itself and not by its indices."""
        rows = self._run(f"SELECT changed, {TRIAL}, {SCORES}, digest FROM trial NOT INDEXED ORDER BY number")
        (count,) = self._run("SELECT count(*) FROM trial INDEXED BY changes")[0]
        if [row[1] for row in rows] != list(range(count)):
            with self._sound():
                raise damaged(self._path, f"it has rows of {len(rows)} trials, and had those of {count}")
        return sorted(filter(self._is_entered, rows), key=itemgetter(0))

    def _is_entered(self, row: Any) -> bool:
        """True for the row of a trial; False for that of a number which is taken, and holds no trial yet."""
        changed, number, config, status = row[:4]
        damage = "" if type(changed) is int else "its row has no place among the changes"
        if status == "CLAIMED" and (config, row[-1]) != (None, None):
            damage = "its row is called CLAIMED, and holds a trial"
        if damage:
            with self._sound():
                raise damaged(self._path, damage, number)
        return status != "CLAIMED" and not damage

    def _changed_rows(self) -> list[Any]:
        return self._run(
            f"SELECT changed, {TRIAL}, {SCORES}, digest FROM trial"
            " WHERE changed > ? AND status != 'CLAIMED' AND writer != ?"  # a claimed number may be given back
            " ORDER BY changed, number",
            (self._seen, self._owner),
        )

    def _trials(self, rows: Iterable[tuple[Any, ...]]) -> list[Trial]:
        trials = []
        for row in rows:
            with self._sound():
                trials.append(self._trial(row))
        return trials

    def _trial(self, row: tuple[Any, ...]) -> Trial:
        number, status, epochs, digest = row[0], row[2], row[-4], row[-1]
        if status in ENDED:
            return trial_of(self._path, row)
        columns = f"SELECT {REPORT}, digest FROM report WHERE trial = ? ORDER BY epoch"
        reports = reports_of(self._path, number, self._run(columns, (number,)), epochs)
        return trial_of(self._path, (*row[: -len(SCORES.split()) - 1], digest), reports)

    def claim(self, limit: float) -> int | None:
        with self._transaction():
            rows = self._run(f"SELECT coalesce({ORPHAN}, (SELECT max(number) + 1 FROM trial), 0)")
            number = int(rows[0][0])
            if number >= limit:
                return None
            claimed = self._run(
                f"INSERT INTO trial (number, owner, writer, changed, status) VALUES (?, ?, ?, {NEXT}, 'CLAIMED')"
                " ON CONFLICT DO UPDATE"  # of an orphan
                " SET owner = excluded.owner, writer = excluded.writer, changed = excluded.changed"
                " WHERE owner IS NULL AND status = 'CLAIMED' RETURNING number",
                (number, self._owner, self._owner),
            )
            if not claimed:
                raise damaged(self._path, "it is called free, and is not", number)
        self._owners.begin()
        return number

    def release(self, number: int) -> None:
        mine = "number = ? AND owner = ? AND status = 'CLAIMED'"
        with self._transaction():  # the last number goes; one below it is for the next claim
            last = f"DELETE FROM trial WHERE {mine} AND number = (SELECT max(number) FROM trial)"
            self._run(last, (number, self._owner))
            self._run(f"UPDATE trial SET owner = NULL WHERE {mine}", (number, self._owner))

    def enter(self, trial: Trial, once: bool) -> bool:
        if not once:
            self.put(trial)
            return True
        with self._transaction():
            same = "SELECT 1 FROM trial WHERE config = ? AND parent IS NULL AND number != ? LIMIT 1"
            taken = bool(self._run(same, (json.dumps(trial.config), trial.number)))
            if not taken:
                self._write(*self._row(trial))
        return not taken

    def take(self, number: int) -> bool:
        with self._transaction():
            rows = self._run(
                f"UPDATE trial SET owner = ?, writer = ?, changed = {NEXT}, status = 'RUNNING'"
                " WHERE number = ? AND owner IS NULL AND status = 'PAUSED' RETURNING number",
                (self._owner, self._owner, number),
            )
        self._owners.begin()
        self._reported.add(number)
        return bool(rows)

    def seize(self, number: int) -> bool:
        with self._transaction():
            rows = self._run(
                f"UPDATE trial SET owner = ?, changed = {NEXT} WHERE number = ? AND status = 'RUNNING'"
                " AND owner != ? RETURNING number",
                (self._owner, number, self._owner),
            )
        self._owners.begin()
        self._reported.add(number)
        self._version = -2  # a connection's own commits do not alter its data_version
        return bool(rows)

    def put(self, trial: Trial) -> None:
        number = trial.number
        if trial.ended:
            self._pending = [write for write in self._pending if write.trial != number]
            if number in self._reported:
                self._forget(number, after=-1)
                self._reported.discard(number)
            self._ends = True
            self._urgent = self._urgent or trial.seconds > SHORT
        self._later(*self._row(trial))

    def _row(self, trial: Trial) -> Write:
        """Return the write of a trial's row."""
        owner = self._owner if trial.status == "RUNNING" else None
        number, *row = trial_row(trial)
        names = f"{TRIAL}, {SCORES}" if trial.ended else TRIAL
        columns, marks = names.removeprefix("number, "), ", ".join("?" * len(row))
        return Write(
            number,
            True,
            f"UPDATE trial SET owner = ?, writer = ?, changed = {NEXT}, ({columns}, digest) = ({marks})"
            " WHERE number = ? AND owner = ?",
            (owner, self._owner, *row, number, self._owner),
        )

    def report(self, number: int, report: Report) -> None:
        self._later(
            number,
            True,
            f"INSERT OR REPLACE INTO report ({REPORT}, digest) SELECT ?, ?, ?, ?, ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM trial WHERE number = ? AND owner = ?)",
            (*report_row(number, report), number, self._owner),
        )
        self._later(
            number,
            False,
            f"UPDATE trial SET tries = 0, writer = ?, changed = {NEXT}, epochs = {LAST} WHERE number = ? AND owner = ?",
            (self._owner, number, self._owner),
        )

    def forget(self, number: int, after: int) -> None:
        self._forget(number, after)
        self._later(
            number, False, f"UPDATE trial SET epochs = {LAST} WHERE number = ? AND owner = ?", (number, self._owner)
        )

    def _forget(self, number: int, after: int) -> None:
        mine = "EXISTS (SELECT 1 FROM trial WHERE number = ? AND owner = ?)"
        row = (number, after, number, self._owner)
        self._later(number, False, f"DELETE FROM report WHERE trial = ? AND epoch > ? AND {mine}", row)

    def commit(self) -> list[int]:
        if self._pending:
            with self._transaction():
                pass
        lost, self._lost = self._lost, []
        return lost

    def recover(self) -> Freed:
        freed = self._owners.recover()
        if freed:
            self._version = -2  # a connection's own commits do not alter its data_version
        return freed

    def waiting(self) -> list[RemoteOwner]:
        return self._owners.waiting()

    def free(self, name: str) -> dict[str, list[int]]:
        """Free the trials of the owners whose host or whole name is `name`; return their numbers by owner.

        Raises:
            StoreError: one of them runs on this machine.
        """
        owners = self._owners.named(name)
        for owner in owners:
            if lives(owner):
                raise StoreError(
                    f"{self._path}: {OwnerName.of(owner)} runs on this machine; end that process, and its trials are"
                    " free."
                )
        with self._transaction():
            return {owner: [number for number, _ in self._owners.free(owner)] for owner in owners}

    @property
    def busy(self) -> bool:
        """True while a process that is alive has a trial of the study under way."""
        return self._owners.busy

    def enqueue(self, config: dict[str, Any]) -> None:
        with self._transaction():
            self._run("INSERT INTO queue (config, trial, digest) VALUES (?, ?, ?)", queue_row(config, None))

    def next_queued(self, number: int) -> dict[str, Any] | None:
        config = self._queued("trial = ?", number)
        if config is None and self._run("SELECT 1 FROM queue WHERE trial IS NULL LIMIT 1"):
            with self._transaction():
                first = self._run("SELECT min(id) FROM queue WHERE trial IS NULL")[0][0]
                config = self._queued("id = ?", first)
                if config is not None:
                    row = queue_row(config, number)
                    self._run("UPDATE queue SET config = ?, trial = ?, digest = ? WHERE id = ?", (*row, first))
        return config

    def _queued(self, condition: str, value: int) -> dict[str, Any] | None:
        rows = self._run(f"SELECT config, trial, digest FROM queue WHERE {condition}", (value,))
        return queued_config(self._path, *rows[0]) if rows else None

    def close(self) -> None:
        with suppress(StoreError):
            self.commit()
        self._owners.leave()
        self._db.close()

    def __del__(self) -> None:
        self._owners.leave(wait=False)

    def _later(self, trial: int, own: bool, statement: str, row: tuple[Any, ...]) -> None:
        self._pending.append(Write(trial, own, statement, row))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """BEGIN IMMEDIATE, what is pending, the body, COMMIT; rolled back when anything goes wrong."""
        pending, self._pending = self._pending, []
        try:
            self._sync()
            self._db.execute("BEGIN IMMEDIATE")
            if self._owners.lost_hold():
                pending = [write for write in pending if write.trial != NOTE]
                raise StoreError(f"{self._path}: {TAKEN_OVER}")
            for write in pending:
                self._write(*write)
            yield
            self._file.check()
            self._db.execute("COMMIT")
        except BaseException as error:
            self._pending, self._urgent = pending + self._pending, True  # for the next commit
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            if isinstance(error, FAILURES):
                raise self._failure(error) from None
            raise

    @contextmanager
    def _snapshot(self) -> Generator[None]:
        """Read everything within the block as of one moment."""
        self._run("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._db.execute("COMMIT")

    def _write(self, trial: int, own: bool, statement: str, row: tuple[Any, ...]) -> None:
        changed = self._db.execute(statement, row).rowcount
        if own and changed == 0 and trial not in self._lost:
            self._lost.append(trial)
        if "INTO report" in statement:
            self._reported.add(trial)

    def _sync(self) -> None:
        """Choose whether the next commit waits for the disk."""
        now = time.monotonic()
        ends = self._urgent or (self._ends and now - self._synced > SHORT)
        full = ends if self._durable == "end" else self._durable == "always"
        if full:
            self._synced, self._urgent, self._ends = now, False, False
        if full is not self._full:
            self._db.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
            self._full = full

    def _run(self, statement: str, row: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, row).fetchall()
        except FAILURES as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> StoreError:
        ended = None
        try:
            self._file.check()
        except StoreError as lost:  # whatever SQLite made of that
            return lost
        with suppress(sqlite3.Error):
            (ended,) = self._db.execute(f"SELECT count(*) FROM trial WHERE status IN {ENDED}").fetchone()
        return not_done(error, self._path, ended)
