"""Files that are there whole or not at all: written under a temporary name of their own, synced, renamed."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer

from tuneflow.errors import StoreError

if sys.platform != "win32":
    import fcntl

# An entry that is there already is never opened, whoever made it; a symbolic link is not followed.
NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
OLD = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
NO_ROOM = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full, as far as the quota goes",
    errno.EFBIG: "disk full, as far as the limit on a file's size goes",
}


def write_bytes(path: Path, *parts: Buffer) -> None:
    """Write a file that is there whole or not at all: under a random temporary name, synced, renamed.

    A symbolic link at `path` is replaced and not followed. The file's mode is that of any new one.

    Raises:
        StoreError: it cannot be written, or is no file but a device, a pipe or a folder; what was there before stays.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # to rename would put a file in its place
        raise StoreError(f"{path}: cannot be written, as it is no file; give the name of a file.")
    try:
        _write(path, parts)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreError(f"{path}: {NO_ROOM[error.errno]}. Make room and run again.") from None
        reason = error.strerror if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise StoreError(f"{path}: cannot be written ({reason}).") from None


def write_once(path: Path, content: Buffer) -> None:
    """Write a file in the same way, unless there is one already; of several writers the first one counts.

    Raises:
        OSError: it cannot be written.
    """
    _write(path, (content,), place=_linked)


def remove_leftovers(folder: Path, begins: str) -> None:
    """Remove the temporary files whose names begin so and whose writers have died; one that is being written stays."""
    for file in folder.glob(f"{begins}*.tmp"):
        with suppress(OSError):
            _remove_dead(file)


def _write(path: Path, parts: tuple[Buffer, ...], place: Callable[[Path, Path], None] = os.replace) -> None:
    temporary, file = _new_file(path)
    try:
        with file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":
                place(temporary, path)  # while it is locked
        if sys.platform == "win32":  # an open file cannot be renamed there
            place(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _linked(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        with suppress(FileExistsError), path.open("xb") as file:  # a file system without links
            file.write(temporary.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    temporary.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[Path, BinaryIO]:
    """Return the name of a new temporary file beside `path`, and the file, which is locked while its writer lives."""
    while True:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        with suppress(FileExistsError):
            file = os.fdopen(os.open(temporary, NEW, 0o666), "wb")  # the umask narrows it, as for any new file
            if _locked(file) and os.fstat(file.fileno()).st_nlink:  # it may have been taken for a leftover before
                return temporary, file
            file.close()


def _locked(file: BinaryIO) -> bool:
    """Lock a file that is written, which the system undoes when the process ends; False if another process has it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True


def _remove_dead(file: Path) -> None:
    """Remove a leftover, if it is a file that nobody has locked; raise OSError where that cannot be known."""
    if not stat.S_ISREG(file.lstat().st_mode):
        return
    if sys.platform == "win32":
        file.unlink()  # an open one cannot be removed there
    else:
        with open(os.open(file, OLD), "rb") as leftover:
            fcntl.flock(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
