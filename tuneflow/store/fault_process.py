"""A second process for the check of a file system: it carries out functions of this file, and may be killed."""

import multiprocessing
import os
import signal
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tuneflow.errors import TuneflowError
from tuneflow.history.trial import Trial
from tuneflow.store.atomic_file import write_bytes
from tuneflow.store.checkpoints import read
from tuneflow.store.sqlite import SqliteStore

PATIENCE = 60.0  # seconds until a process that does not answer hangs, with those that it takes to start
CONTENTS = [bytes([letter]) * 2**16 for letter in b"abc"]  # of a file that is replaced again and again
FAULTS = (OSError, EOFError, sqlite3.Error, TuneflowError)  # of a file system that cannot be relied on

_locks: list[sqlite3.Connection] = []  # of this process
_stores: dict[Path, SqliteStore] = {}


class OtherProcess:
    """A process that is started from nothing, as another run of a script is, and takes requests in turn.

    A request is a function of this file; what it yields comes back as answers.
    """

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        """Request `function(*arguments)`, and do not wait for it."""
        self._pipe.send((function, arguments))

    def answer(self) -> Any:
        """Return the next answer.

        Raises:
            OSError, EOFError: there is none, as the process hangs or has died.
            Exception: the function raised it.
        """
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError(f"another process has not answered for {PATIENCE:g} seconds")
        value = self._pipe.recv()
        if isinstance(value, Exception):
            raise value
        return value

    def answer_to(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Any:
        """Request `function(*arguments)`, and return its one answer."""
        self.ask(function, *arguments)
        return self.answer()

    def last_answers(self) -> Iterator[Any]:
        """Yield the answers of a process that was killed and were not read yet."""
        try:
            while True:
                yield self.answer()
        except (EOFError, ConnectionResetError):
            return

    def kill(self) -> None:
        """End the process by SIGKILL, wherever it is."""
        self._process.kill()
        self._process.join()


def serve(pipe: Connection) -> None:
    """Carry out requests until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that asks
    warnings.simplefilter("ignore")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            for answer in function(*arguments):
                pipe.send(answer)
        except FAULTS as error:
            pipe.send(error)


# Requests.


def ready() -> Iterator[int]:
    """Yield the number of the process, as soon as it has started."""
    yield os.getpid()


def new_names(folder: Path, count: int) -> Iterator[set[int]]:
    """Yield those of `count` files of the folder that this process was the one to make."""
    names = set()
    for name in range(count):
        try:
            os.close(os.open(folder / str(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            names.add(name)
        except FileExistsError:
            pass
    yield names


def replace_often(path: Path, seconds: float) -> Iterator[int]:
    """Yield how often a file was replaced in the time."""
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until or count < len(CONTENTS):
        write_bytes(path, CONTENTS[count % len(CONTENTS)])
        count += 1
    yield count


def read_often(path: Path, seconds: float) -> Iterator[tuple[int, int, int]]:
    """Yield how often a file was read in the time, how often it was not whole, and how many contents it had."""
    until, count, torn, seen = time.monotonic() + seconds, 0, 0, set()
    while time.monotonic() < until:
        content = path.read_bytes()
        count += 1
        torn += content not in CONTENTS
        seen.add(content[:1])
    yield count, torn, len(seen)


def take_lock(path: Path) -> Iterator[bool]:
    """Lock a database; yield False where it is locked already. The lock is kept until `drop_lock`."""
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        database.close()
        if "locked" not in str(error):
            raise
        yield False
        return
    _locks.append(database)
    yield True


def drop_lock() -> Iterator[None]:
    """Undo `take_lock`."""
    _locks.pop().close()
    yield None


def store_of(path: Path) -> SqliteStore:
    """Return the store in a file, which stays open."""
    if path not in _stores:
        _stores[path] = SqliteStore(path)
    return _stores[path]


def commit(path: Path, key: str) -> Iterator[bool]:
    """Write a row of the store, durably for other processes."""
    store_of(path).remember(key, {})
    yield True


def sees(path: Path, key: str) -> Iterator[bool]:
    """Yield True where the store has the row."""
    yield store_of(path).recall(key) is not None


def claim_all(path: Path, limit: int) -> Iterator[set[int]]:
    """Open the store, made where it is not there, and yield the numbers that this process could claim."""
    with closing(SqliteStore(path)) as store:
        numbers = set()
        while (number := store.claim(limit)) is not None:
            numbers.add(number)
        yield numbers


def end_trials(path: Path) -> Iterator[int]:
    """End one trial after the other, and yield the number of each once it is written; this does not end by itself."""
    with closing(SqliteStore(path)) as store:
        while (number := store.claim(float("inf"))) is not None:
            store.put(Trial(number, {"x": number}))
            store.commit()
            store.put(Trial(number, {"x": number}, "DONE", metrics={"value": float(number)}, seconds=1.0))
            store.commit()
            yield number


def read_back(path: Path) -> Iterator[tuple[set[int], set[int], str]]:
    """Open the store of a process that died; yield the trials that ended, the others, and SQLite's own judgment."""
    with closing(SqliteStore(path)) as store:
        freed = {number for number, _ in store.recover()}
        ended = {trial.number for trial in store.changes() if trial.status == "DONE"}
    with closing(sqlite3.connect(path)) as database:
        (judgment,) = database.execute("PRAGMA integrity_check").fetchone()
    yield ended, freed, judgment


def state_sum(path: Path) -> Iterator[float]:
    """Read a state, and yield the sum of its weights."""
    yield float(read(path).values["weights"].sum())
