"""A store in one SQLite file."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from tuneflow.errors import StoreError
from tuneflow.trial import Report, Trial

VERSION = 1
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trial (number INTEGER PRIMARY KEY, config TEXT NOT NULL, status TEXT NOT NULL,
                    reason TEXT NOT NULL, detail TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE report (trial INTEGER NOT NULL, epoch INTEGER NOT NULL, metrics TEXT NOT NULL, errors TEXT NOT NULL,
                     seconds REAL NOT NULL, PRIMARY KEY (trial, epoch)) WITHOUT ROWID;
"""


class SqliteStore:
    """Keeps everything in the file `path`, which is made when it is not there.

    Raises:
        StoreError: the file cannot be opened, is no tuneflow store, or was written by a newer tuneflow.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._durable: bool | None = None
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._make()
        except sqlite3.Error as error:
            raise StoreError(f"{path}: not a tuneflow store, or it cannot be opened ({error}).") from None

    def _make(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("COMMIT")
        if version > VERSION:
            raise StoreError(
                f"{self._path}: written by a newer tuneflow (store version {version}, this one knows {VERSION});"
                " upgrade tuneflow."
            )

    def describe(self, facts: dict[str, Any] | None = None) -> dict[str, Any] | None:
        if facts is not None:
            self._write(True, "INSERT OR REPLACE INTO study VALUES ('facts', ?)", (json.dumps(facts),))
            return facts
        row = self._db.execute("SELECT value FROM study WHERE key = 'facts'").fetchone()
        return None if row is None else json.loads(row[0])

    def trials(self) -> list[Trial]:
        reports: dict[int, list[Report]] = {}
        for number, epoch, metrics, errors, seconds in self._db.execute("SELECT * FROM report ORDER BY trial, epoch"):
            reports.setdefault(number, []).append(Report(epoch, json.loads(metrics), json.loads(errors), seconds))
        rows = self._db.execute("SELECT number, config, status, reason, detail, seconds FROM trial ORDER BY number")
        return [
            Trial(
                number,
                json.loads(config),
                status,
                reason,
                reports=tuple(reports.get(number, ())),
                detail=detail,
                seconds=seconds,
            )
            for number, config, status, reason, detail, seconds in rows
        ]

    def put(self, trial: Trial) -> None:
        row = (trial.number, json.dumps(trial.config), trial.status, trial.reason, trial.detail, trial.seconds)
        self._write(trial.ended, "INSERT OR REPLACE INTO trial VALUES (?, ?, ?, ?, ?, ?)", row)

    def report(self, number: int, report: Report) -> None:
        row = (number, report.epoch, json.dumps(report.metrics), json.dumps(report.errors), report.seconds)
        self._write(False, "INSERT OR REPLACE INTO report VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, number: int, after: int) -> None:
        self._write(False, "DELETE FROM report WHERE trial = ? AND epoch > ?", (number, after))

    def close(self) -> None:
        self._db.close()

    def __del__(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def _write(self, durable: bool, statement: str, row: tuple[Any, ...]) -> None:
        """One committed statement; `durable` ones are on the disk when this returns."""
        try:
            if durable is not self._durable:
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._db.execute(statement, row)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot be written ({error}).") from None
