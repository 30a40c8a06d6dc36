"""The hook by which the study of a script is replayed: it is made on a copy of its folder, and handed over."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from typing_extensions import override

from tuneflow.errors import StoreError, StudyError
from tuneflow.store.checkpoints import States
from tuneflow.store.folder import Folder
from tuneflow.store.memory import MemoryStore
from tuneflow.store.read_states import ReadStates
from tuneflow.store.sqlite import SqliteStore
from tuneflow.store.sqlite_file import read_only_address
from tuneflow.store.store import Store

PROCESS = "TUNEFLOW_REPLAYING_PROCESS"  # the environment's name for the process that runs a script, for its children


@dataclass
class Awaited:
    """The study that a script is to make.

    Attributes:
        folder: the study's, resolved: a script may go to another folder.
        use: called with the study, once it is made.
        copies: a folder for copies of stores.
        made: True once it was made.
        error: what `use` raised.
    """

    folder: Path
    use: Callable[[Any], object]
    copies: Path
    made: bool = False
    error: BaseException | None = None


_awaited: list[Awaited] = []  # one while a script is run for its study, in all threads; none while it is used


@contextmanager
def awaiting(awaited: Awaited) -> Iterator[None]:
    """A block in which the study of a script is awaited."""
    os.environ[PROCESS] = str(os.getpid())
    _awaited.append(awaited)
    try:
        yield
    finally:
        _awaited.clear()
        del os.environ[PROCESS]


def folder_to_open(folder: Folder) -> Folder:
    """Return the folder that a study opens: the one it was given, or a copy while a script is run for its study.

    Raises:
        StudyError: a child process of such a script opens it.
    """
    if folder.path is None or PROCESS not in os.environ:
        return folder
    if os.environ[PROCESS] != str(os.getpid()):
        raise StudyError(
            f"{folder.path}: its script is replayed; the study has to be made in the script's own process."
        )
    if not _awaited:
        return folder
    awaited = _awaited[0]
    return FolderCopy(folder.path, folder.keep, folder.checkpoint, folder.memory, folder.durable, awaited.copies)


def hand_over(study: Any) -> None:
    """Hand a study that was made over to whoever runs its script for it, and leave the script; else do nothing.

    Raises:
        SystemExit: the study was awaited; it leaves the script, or a thread of it.
    """
    if not _awaited or study.folder is None or study.folder.resolve() != _awaited[0].folder:
        return
    awaited = _awaited[0]
    if not awaited.made:
        awaited.made = True
        _awaited.clear()
        try:
            awaited.use(study)
        except BaseException as error:
            awaited.error = error
        finally:
            _awaited.append(awaited)
    study.close()
    raise SystemExit


@dataclass(frozen=True)
class FolderCopy(Folder):
    """A study's folder of which a copy is opened: of the store in `copies`, of the states none, as they are only read.

    A folder without a study is opened in memory.
    """

    copies: Path = Path()

    @override
    def open(self) -> tuple[Store, States]:
        path = Path(self.path or "").expanduser().absolute()
        if not (path / "study.sqlite").is_file():
            return MemoryStore(), States(None, self.memory)
        copy = Path(mkdtemp(dir=self.copies)) / "study.sqlite"
        try:
            name = read_only_address(path / "study.sqlite")
            with closing(sqlite3.connect(name, uri=True, timeout=60)) as source, closing(sqlite3.connect(copy)) as to:
                source.backup(to)
        except sqlite3.Error as error:
            raise StoreError(f"{path / 'study.sqlite'}: cannot be read ({error}).") from None
        return SqliteStore(copy, "never"), self.states("states")

    @override
    def states(self, name: str) -> States:
        return ReadStates(Path(self.path or "").expanduser().absolute() / name)
