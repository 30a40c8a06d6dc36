"""The tables of a store: their statements, their version, and the content of a file that has them and no rows."""

import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from tuneflow.errors import StoreError, listed
from tuneflow.store.sqlite_errors import damaged

VERSION = 5  # 5: digests of rows, and beats of owners; no study was released with any before
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB) WITHOUT ROWID;
CREATE TABLE queue (id INTEGER PRIMARY KEY, config TEXT NOT NULL, trial INTEGER, digest BLOB);
CREATE INDEX queued ON queue (trial);
CREATE TABLE trial (number INTEGER PRIMARY KEY, owner TEXT, writer TEXT, tries INTEGER NOT NULL DEFAULT 0,
                    changed INTEGER NOT NULL, status TEXT NOT NULL, config TEXT, parent TEXT, repeats INTEGER,
                    until INTEGER, extends INTEGER, reason TEXT, detail TEXT, epochs INTEGER, seconds REAL,
                    metrics TEXT, errors TEXT, reports TEXT, digest BLOB);
CREATE INDEX changes ON trial (changed);
CREATE INDEX configs ON trial (config) WHERE parent IS NULL;
CREATE INDEX orphans ON trial (number) WHERE owner IS NULL AND status = 'CLAIMED';
CREATE INDEX owned ON trial (owner, number) WHERE owner IS NOT NULL;
CREATE TABLE owner (name TEXT PRIMARY KEY, beat INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE report (trial INTEGER, epoch INTEGER, seconds REAL, metrics TEXT, errors TEXT,
                     at REAL, worker INTEGER, digest BLOB, PRIMARY KEY (trial, epoch)) WITHOUT ROWID
"""
STATEMENTS = tuple(statement.strip() for statement in SCHEMA.split(";"))
CHECKED = 2**23  # bytes: a file of this size at most is checked with its indices when it is opened


@lru_cache
def new_content(log: bool) -> bytes:
    """Return the content of a file with these tables and no rows; with `log` one that is written by a log (WAL)."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        for statement in STATEMENTS:
            database.execute(statement)
        database.execute(f"PRAGMA user_version={VERSION}")
        content = bytearray(database.serialize())
    content[18:20] = b"\2\2" if log else b"\1\1"  # the format's write and read versions
    return bytes(content)


def check_tables(database: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError unless the file is a store of this version with all its tables, and not damaged."""
    stored = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    tables = sorted(name for name, statement in stored.items() if statement.startswith("CREATE TABLE"))
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0 or "study" not in tables:
        raise StoreError(f"{path}: not a tuneflow store, but a database of {listed(tables)}; use another folder.")
    if version != VERSION:
        newer = version > VERSION
        way_out = "upgrade tuneflow" if newer else "use another folder, or the tuneflow that wrote it"
        raise StoreError(
            f"{path}: written by {'a newer' if newer else 'an older'} tuneflow (store version {version}, this one reads"
            f" {VERSION}); {way_out}."
        )
    if missing := [statement.split()[2] for statement in STATEMENTS if statement not in stored.values()]:
        raise damaged(path, f"the statement of {listed(missing)} is not the one that it was made with")
    if strange := sorted(name for name, statement in stored.items() if not _is_passive(statement)):
        raise StoreError(
            f"{path}: holds {listed(strange)}, which tuneflow did not make and which may change what is written (a"
            " trigger, view or virtual table). Restore it from a backup, or use another folder."
        )


def _is_passive(statement: str) -> bool:
    """True for the statement of an ordinary table or index."""
    return " ".join(statement.upper().split()).startswith(("CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "))


def check_pages(database: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where SQLite finds its pages damaged; in a small file its indices are compared, too."""
    pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    check = "integrity_check" if pages * size <= CHECKED else "quick_check"
    (text,) = database.execute(f"PRAGMA {check}(1)").fetchone()
    if text != "ok":
        raise damaged(path, " ".join(text.split()))
