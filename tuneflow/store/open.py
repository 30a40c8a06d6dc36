"""A study's folder, opened: its store and its states."""

from pathlib import Path

from tuneflow.errors import StoreError
from tuneflow.store.checkpoints import States
from tuneflow.store.memory import MemoryStore
from tuneflow.store.owner import who_may_write
from tuneflow.store.sqlite import Durable, SqliteStore
from tuneflow.store.store import Store


def opened(folder: Path | None, durable: Durable, memory: int) -> tuple[Store, States]:
    """The store and the states in `folder`, which is made when it is not there; None keeps both in memory.

    Args:
        memory: bytes of states to hold in memory.

    Raises:
        StoreError: the folder cannot be used.
    """
    if folder is None:
        return MemoryStore(), States(None, memory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return SqliteStore(folder / "study.sqlite", durable), States(folder / "states", memory)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.is_file())
        raise StoreError(f"{file}: cannot be used as a study's folder, as it is a file; give another name.") from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be used as a study's folder ({error}){who_may_write(folder)}.") from None
