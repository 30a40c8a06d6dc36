"""A study's folder: what is kept in it, and how it is opened."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from tuneflow.errors import StoreError
from tuneflow.store.checkpoints import States
from tuneflow.store.links import refuse_links
from tuneflow.store.memory import MemoryStore
from tuneflow.store.sqlite import Durable, SqliteStore
from tuneflow.store.sqlite_file import who_may_write
from tuneflow.store.store import Store
from tuneflow.validate import check_seconds, check_whole, check_word, is_word, path_of

Keep = int | Literal["all"]  # number of trials
ALL = 'for 1, or write "all"'


@dataclass(frozen=True)
class Folder:
    """The folder of a study, and what is kept in it how long: `tn.Study(folder=tn.Folder("runs/first", keep=3))`.

    A study that is there already goes on, and several processes may work on it at once. A plain path in place of a
    Folder takes the defaults.

    Args:
        path: the folder, made when it is not there; None keeps everything in memory.
        keep: number of the best trials whose trained states are kept; "all" for those of every trial with a score.
        checkpoint: seconds between writes of unfinished trials' states to the folder; what was trained since the last
            write is trained again, to the same digits, when the process dies.
        memory: bytes of trained states to hold in memory; beyond it they are in files of the folder, or of a temporary
            one where there is none.
        durable: what survives a crash of the machine, not only of the process: "end" every trial that ended, "always"
            every epoch's report, "never" nothing for sure.

    Raises:
        ValueError, TypeError: an argument is out of its range.
    """

    path: str | os.PathLike[str] | None
    keep: Keep = 1
    checkpoint: float = 10.0
    memory: int = 2**30
    durable: Durable = "end"

    def __post_init__(self) -> None:
        if self.path is not None:
            path_of("Folder: path", self.path)
        every = is_word(self.keep, ("all",))
        plain = {
            "keep": self.keep if every else check_whole("Folder: keep", self.keep, otherwise=ALL),
            "checkpoint": check_seconds("Folder: checkpoint", self.checkpoint, "with 0 every epoch is written"),
            "memory": check_whole("Folder: memory", self.memory),
        }
        for name, value in plain.items():  # NumPy's numbers as Python's
            object.__setattr__(self, name, value)
        check_word("Folder: durable", self.durable, ("end", "always", "never"))

    @classmethod
    def of(cls, folder: Any) -> "Folder":
        """Return what a Study got as `folder`, a Folder, a path or None, as a Folder."""
        if isinstance(folder, Folder):
            return folder
        if folder is not None:
            path_of("Study: folder", folder)
        return cls(folder)

    def open(self) -> tuple[Store, States]:
        """Return the store and the states in the folder; in memory without a path.

        Raises:
            StoreError: the folder cannot be used.
        """
        if self.path is None:
            return MemoryStore(), States(None, self.memory)
        path = path_of("Folder: path", self.path).absolute()  # it stays the same folder after os.chdir
        try:
            path.mkdir(parents=True, exist_ok=True)
            refuse_links(path)
            states = self.states("states")
            return SqliteStore(path / "study.sqlite", self.durable), states
        except (FileExistsError, NotADirectoryError):
            parts = (path / "states", path, *path.parents)
            file = next((part for part in parts if part.exists() and not part.is_dir()), path)
            raise StoreError(
                f"{file}: cannot be used as a study's folder, as it is a file; give another name."
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be used as a study's folder ({error}){who_may_write(path)}.") from None

    def states(self, name: str) -> States:
        """Return the states in the folder `name` of this one; in memory without a path."""
        path = None if self.path is None else path_of("Folder: path", self.path).absolute() / name
        return States(path, self.memory)
