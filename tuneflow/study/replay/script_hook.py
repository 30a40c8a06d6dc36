"""The hook by which the study of a script is replayed: it is made on a copy of its folder, and handed over."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from typing_extensions import override

from tuneflow.errors import StoreError
from tuneflow.store.checkpoints import States
from tuneflow.store.folder import Folder
from tuneflow.store.memory import MemoryStore
from tuneflow.store.read_states import ReadStates
from tuneflow.store.sqlite import SqliteStore
from tuneflow.store.sqlite_file import read_only_address
from tuneflow.store.store import Store


class HandedOver(BaseException):
    """Leaves a script, whose study has been handed over."""


@dataclass
class Awaited:
    """The study that a script is to make.

    Attributes:
        folder: the study's.
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


AWAITED: ContextVar[Awaited | None] = ContextVar("tuneflow_awaited", default=None)  # set while a script is run for it


def folder_to_open(folder: Folder) -> Folder:
    """Return the folder that a study opens: the one it was given, or a copy while a script is run for its study."""
    awaited = AWAITED.get()
    if awaited is None or folder.path is None:
        return folder
    return FolderCopy(folder.path, folder.keep, folder.checkpoint, folder.memory, folder.durable, awaited.copies)


def hand_over(study: Any) -> None:
    """Hand a study that was made over to whoever runs its script for it, and leave the script; else do nothing.

    Raises:
        HandedOver: the study was awaited.
    """
    awaited = AWAITED.get()
    if awaited is None or study.folder is None or study.folder.resolve() != awaited.folder.resolve():
        return
    awaited.made = True
    token = AWAITED.set(None)
    try:
        awaited.use(study)
    except BaseException as error:
        awaited.error = error
    finally:
        AWAITED.reset(token)
        study.close()
    raise HandedOver


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
