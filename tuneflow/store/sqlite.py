"""A store in one SQLite file, which several processes may share."""

import json
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tuneflow.errors import StoreError, listed, warn
from tuneflow.history.trial import ENDED, Report, Trial
from tuneflow.store.lazy_reports import LazyReports
from tuneflow.store.owner import is_alive, leave, new_owner
from tuneflow.store.sqlite_file import NETWORK, file_system, is_full, read_only_address, who_may_write

VERSION = 4  # 3: reports without time and worker; no study was released with any before
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (id INTEGER PRIMARY KEY, config TEXT NOT NULL, trial INTEGER);
CREATE INDEX queued ON queue (trial);
CREATE TABLE trial (number INTEGER PRIMARY KEY, owner TEXT, writer TEXT, tries INTEGER NOT NULL DEFAULT 0,
                    changed INTEGER NOT NULL, status TEXT NOT NULL, config TEXT, parent TEXT, repeats INTEGER,
                    until INTEGER, extends INTEGER, reason TEXT, detail TEXT, epochs INTEGER, seconds REAL,
                    metrics TEXT, errors TEXT, reports TEXT);
CREATE INDEX changes ON trial (changed);
CREATE INDEX configs ON trial (config) WHERE parent IS NULL;
CREATE INDEX orphans ON trial (number) WHERE owner IS NULL AND status = 'CLAIMED';
CREATE TABLE report (trial INTEGER, epoch INTEGER, seconds REAL, metrics TEXT, errors TEXT,
                     at REAL, worker INTEGER, PRIMARY KEY (trial, epoch)) WITHOUT ROWID
"""
HOLDER = "holder"  # the key of who runs the study alone
NOTE = -1  # stands for a trial's number in a write that concerns none
NEXT = "(SELECT coalesce(max(changed), 0) + 1 FROM trial)"
ORPHAN = "(SELECT min(number) FROM trial INDEXED BY orphans WHERE owner IS NULL AND status = 'CLAIMED')"

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
        self._path, self._durable, self._owner = path, durable, new_owner()
        self._held = json.dumps({"owner": self._owner})
        self._pending: list[Write] = []
        self._lost: list[int] = []
        self._urgent = self._ends = False  # what is pending holds the end of a trial that took long, or of any
        self._synced = 0.0
        self._reported: set[int] = set()  # this process's trials that have rows in the table of live reports
        self._seen, self._version, self._full = 0, -1, False
        self._read = False  # all trials were read once; later calls of `changes` leave out those of this process
        try:
            name = read_only_address(path) if reads else str(path)
            self._db = sqlite3.connect(name, timeout=60, isolation_level=None, check_same_thread=False, uri=reads)
            _patiently(self._check_begun if reads else self._make)
        except sqlite3.Error as error:
            full = "disk full; there is no room for a study. Make room and run again."
            other = f"not a tuneflow store, or it cannot be opened ({error}){who_may_write(path)}."
            raise StoreError(f"{path}: {full if is_full(error, path) else other}") from None

    def _check_version(self) -> None:
        """Raise StoreError unless the file is a store of this version, or empty."""
        tables = sorted(name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and (version == 0 or "study" not in tables):
            raise StoreError(
                f"{self._path}: not a tuneflow store, but a database of {listed(tables)}; use another folder."
            )
        if tables and version != VERSION:
            newer = version > VERSION
            way_out = "upgrade tuneflow" if newer else "use another folder, or the tuneflow that wrote it"
            raise StoreError(
                f"{self._path}: written by {'a newer' if newer else 'an older'} tuneflow (store version {version}, this"
                f" one reads {VERSION}); {way_out}."
            )

    def _check_begun(self) -> None:
        """Raise StoreError unless the file is a store of this version with its tables."""
        self._check_version()
        if not self._db.execute("SELECT name FROM sqlite_master").fetchone():
            raise StoreError(
                f"{self._path}: empty, so its study is being made just now, or was never completed: then remove the"
                " folder."
            )

    def _make(self) -> None:
        self._check_version()
        kind = file_system(self._path)
        if kind in NETWORK:
            warn(f"{self._path}: lies on a network file system ({kind}); sharing it between hosts is slow and unsafe.")
        self._db.execute(f"PRAGMA journal_mode={'DELETE' if kind in NETWORK else 'WAL'}")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("COMMIT")

    def describe(self, facts: dict[str, Any]) -> dict[str, Any]:
        return self.remember("facts", facts)

    def remember(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        self._run("INSERT OR IGNORE INTO study VALUES (?, ?)", (key, json.dumps(value)))
        return self.recall(key) or {}

    def recall(self, key: str) -> dict[str, Any] | None:
        rows = self._run("SELECT value FROM study WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else None

    def recall_all(self, prefix: str) -> dict[str, dict[str, Any]]:
        statement = "SELECT key, value FROM study WHERE substr(key, 1, ?) = ? ORDER BY key"
        return {key: json.loads(value) for key, value in self._run(statement, (len(prefix), prefix))}

    def note(self, key: str, value: dict[str, Any]) -> None:
        row = (key, json.dumps(value))
        self._pending = [write for write in self._pending if write[:2] != (NOTE, False) or write.row[0] != key]
        self._later(NOTE, False, "INSERT OR REPLACE INTO study VALUES (?, ?)", row)

    def exchange(self, key: str, before: dict[str, Any], value: dict[str, Any]) -> bool:
        with self._transaction():
            if same := self.recall(key) == before:
                self._run("UPDATE study SET value = ? WHERE key = ?", (json.dumps(value), key))
        return same

    def hold(self) -> bool:
        with self._transaction():
            holder = (self.recall(HOLDER) or {}).get("owner", self._owner)
            if holder == self._owner or not is_alive(holder):
                self._run("INSERT OR REPLACE INTO study VALUES (?, ?)", (HOLDER, self._held))
                return True
        return False

    def let_go(self) -> None:
        self._run("DELETE FROM study WHERE key = ? AND value = ?", (HOLDER, self._held))

    def changes(self) -> list[Trial]:
        version = self._run("PRAGMA data_version")[0][0]
        if version == self._version:
            return []
        rows = self._run(
            "SELECT changed, number, config, status, reason, metrics, errors, epochs, seconds, reports, detail, parent,"
            " repeats, until, extends"
            " FROM trial WHERE changed > ? AND status != 'CLAIMED'"  # a number may be given back
            f" {'AND writer != ?' if self._read else ''} ORDER BY changed, number",
            (self._seen, self._owner) if self._read else (self._seen,),
        )
        trials = [self._trial(*row[1:]) for row in rows]
        self._seen, self._version = max([self._seen, *(row[0] for row in rows)]), version  # unless reading failed
        self._read = True
        return trials

    def _trial(self, number: int, config: str, status: Any, reason: str, *rest: Any) -> Trial:
        metrics, errors, epochs, seconds, packed, detail, parent, repeats, until, extends = rest
        summary = (json.loads(metrics or "{}"), json.loads(errors or "{}"), epochs, seconds)
        reports = LazyReports(packed) if packed else self._reports(number)
        origin = tuple(json.loads(parent)) if parent else None
        links = (origin, repeats, until, bool(extends))
        return Trial(number, json.loads(config), status, reason, *summary, reports, detail, *links)

    def _reports(self, number: int) -> tuple[Report, ...]:
        columns = "epoch, metrics, errors, seconds, at, worker"
        rows = self._run(f"SELECT {columns} FROM report WHERE trial = ? ORDER BY epoch", (number,))
        return tuple(Report(epoch, json.loads(m), json.loads(e), *rest) for epoch, m, e, *rest in rows)

    def claim(self, limit: float) -> int | None:
        with self._transaction():
            rows = self._run(f"SELECT coalesce({ORPHAN}, (SELECT max(number) + 1 FROM trial), 0)")
            number = int(rows[0][0])
            if number >= limit:
                return None
            self._run(
                f"INSERT INTO trial (number, owner, writer, changed, status) VALUES (?, ?, ?, {NEXT}, 'CLAIMED')"
                " ON CONFLICT DO UPDATE"  # of an orphan
                " SET owner = excluded.owner, writer = excluded.writer, changed = excluded.changed",
                (number, self._owner, self._owner),
            )
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
                self._write(*self._row(trial, None, None, None))
        return not taken

    def take(self, number: int) -> bool:
        with self._transaction():
            rows = self._run(
                f"UPDATE trial SET owner = ?, writer = ?, changed = {NEXT}, status = 'RUNNING'"
                " WHERE number = ? AND owner IS NULL AND status = 'PAUSED' RETURNING number",
                (self._owner, self._owner, number),
            )
        self._reported.add(number)
        return bool(rows)

    def seize(self, number: int) -> bool:
        with self._transaction():
            rows = self._run(
                f"UPDATE trial SET owner = ?, changed = {NEXT} WHERE number = ? AND status = 'RUNNING'"
                " AND owner != ? RETURNING number",
                (self._owner, number, self._owner),
            )
        self._reported.add(number)
        self._version = -2  # a connection's own commits do not alter its data_version
        return bool(rows)

    def put(self, trial: Trial) -> None:
        number = trial.number
        packed = metrics = errors = None
        if trial.ended:
            packed = LazyReports.text_of(trial.reports)
            metrics, errors = json.dumps(trial.metrics), json.dumps(trial.errors)
            self._pending = [write for write in self._pending if write.trial != number]
            if number in self._reported:
                self.forget(number, after=-1)
                self._reported.discard(number)
            self._ends = True
            self._urgent = self._urgent or trial.seconds > SHORT
        self._later(*self._row(trial, packed, metrics, errors))

    def _row(self, trial: Trial, packed: str | None, metrics: str | None, errors: str | None) -> Write:
        """Return the write of a trial's row; its reports, metrics and errors are there once it has ended."""
        owner = self._owner if trial.status == "RUNNING" else None
        parent = json.dumps(trial.parent) if trial.parent else None
        return Write(
            trial.number,
            True,
            f"UPDATE trial SET owner = ?, writer = ?, changed = {NEXT}, status = ?, config = ?, parent = ?,"
            " repeats = ?, until = ?, extends = ?, reason = ?, detail = ?, epochs = ?, seconds = ?, metrics = ?,"
            " errors = ?, reports = ? WHERE number = ? AND owner = ?",
            (owner, self._owner, trial.status, json.dumps(trial.config), parent, trial.repeats, trial.until,
             trial.extends, trial.reason, trial.detail, trial.epochs, trial.seconds, metrics, errors, packed,
             trial.number, self._owner),
        )  # fmt: skip

    def report(self, number: int, report: Report) -> None:
        scores = (json.dumps(report.metrics), json.dumps(report.errors))
        row = (number, report.epoch, report.seconds, *scores, report.at, report.worker)
        self._later(
            number,
            True,
            "INSERT OR REPLACE INTO report SELECT ?, ?, ?, ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM trial WHERE number = ? AND owner = ?)",
            (*row, number, self._owner),
        )
        self._later(
            number,
            False,
            f"UPDATE trial SET tries = 0, writer = ?, changed = {NEXT} WHERE number = ? AND owner = ?",
            (self._owner, number, self._owner),
        )

    def forget(self, number: int, after: int) -> None:
        mine = "EXISTS (SELECT 1 FROM trial WHERE number = ? AND owner = ?)"
        row = (number, after, number, self._owner)
        self._later(number, False, f"DELETE FROM report WHERE trial = ? AND epoch > ? AND {mine}", row)

    def commit(self) -> list[int]:
        if self._pending:
            with self._transaction():
                pass
        lost, self._lost = self._lost, []
        return lost

    def recover(self) -> list[tuple[int, int]]:
        freed: list[tuple[int, int]] = []
        nobody = ""  # as the writer, so that it is a change to this process, too
        for (owner,) in self._run("SELECT DISTINCT owner FROM trial WHERE owner IS NOT NULL"):
            if owner == self._owner or is_alive(owner):
                continue
            freed += self._run(
                f"UPDATE trial SET owner = NULL, writer = ?, changed = {NEXT}, tries = tries + 1,"
                " status = CASE status WHEN 'RUNNING' THEN 'PAUSED' ELSE status END"
                " WHERE owner = ? RETURNING number, tries",
                (nobody, owner),
            )
        if freed:
            self._version = -2  # a connection's own commits do not alter its data_version
        return freed

    @property
    def busy(self) -> bool:
        """True while a process that is alive has a trial of the study under way."""
        owners = self._run("SELECT DISTINCT owner FROM trial WHERE owner IS NOT NULL")
        return any(is_alive(owner) for (owner,) in owners if owner != self._owner)

    def enqueue(self, config: dict[str, Any]) -> None:
        self._run("INSERT INTO queue (config) VALUES (?)", (json.dumps(config),))

    def next_queued(self, number: int) -> dict[str, Any] | None:
        rows = self._run("SELECT config FROM queue WHERE trial = ?", (number,))
        if not rows and self._run("SELECT 1 FROM queue WHERE trial IS NULL LIMIT 1"):
            first = "(SELECT min(id) FROM queue WHERE trial IS NULL)"
            rows = self._run(f"UPDATE queue SET trial = ? WHERE id = {first} RETURNING config", (number,))
        return json.loads(rows[0][0]) if rows else None

    def close(self) -> None:
        with suppress(StoreError):
            self.commit()
        self._db.close()
        leave(self._owner)

    def __del__(self) -> None:
        leave(self._owner)
        if hasattr(self, "_db"):
            self._db.close()

    def _later(self, trial: int, own: bool, statement: str, row: tuple[Any, ...]) -> None:
        self._pending.append(Write(trial, own, statement, row))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """BEGIN IMMEDIATE, what is pending, the body, COMMIT; rolled back when anything goes wrong."""
        pending, self._pending = self._pending, []
        try:
            self._sync()
            self._db.execute("BEGIN IMMEDIATE")
            for write in pending:
                self._write(*write)
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._pending, self._urgent = pending + self._pending, True  # for the next commit
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failure(error) from None
            raise

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
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> StoreError:
        if is_full(error, self._path):
            (ended,) = self._db.execute(f"SELECT count(*) FROM trial WHERE status IN {ENDED}").fetchone()
            return StoreError(f"{self._path}: disk full; {ended} trials safe. Make room and run again.")
        if "closed" in str(error):
            return StoreError(f"{self._path}: this study is closed; make it again.")
        if "readonly" in str(error):
            return StoreError(f"{self._path}: cannot be written ({error}){who_may_write(self._path)}.")
        return StoreError(f"{self._path}: cannot be read or written ({error}).")


def _patiently(action: Callable[[], None]) -> None:
    """Try again while another process locks the file: the switch to WAL does not wait by itself."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
