"""The backup of a study's folder, which may be in use meanwhile."""

from collections.abc import Iterator
from pathlib import Path

from tuneflow.errors import StoreError, listed
from tuneflow.store.atomic_file import write_bytes
from tuneflow.store.database_copy import database_copy
from tuneflow.store.sqlite_file import who_may_write
from tuneflow.store.torch_file import content_of
from tuneflow.study.archive import Archive
from tuneflow.study.folder_check import FolderCheck, check_folder

ROUNDS = 5  # copies of a study that removes states while they are copied
STATES = ("states", "final")


def back_up(folder: Path, to: Path) -> FolderCheck:
    """Copy a study's folder to a new one, and return the check of the copy.

    The trials are copied as of one moment, then the states. Where the study has removed one meanwhile that the copy
    needs, both are copied again. Processes that use the study go on; in the copy their trials are paused.

    Args:
        folder: the study's.
        to: the new folder, which is made; one that is there has to be empty.

    Raises:
        StoreError: there is no study, it is damaged, or the copy cannot be written.
    """
    Archive(folder)  # or StoreError
    if folder.resolve() in to.resolve().parents:
        raise StoreError(f"{to}: lies in the study's own folder; give a folder outside of it.")
    _make_room(to)
    before: tuple[object, ...] = ()
    for _ in range(ROUNDS):
        content, count = database_copy(folder / "study.sqlite")
        _copy_states(folder, to, count)
        write_bytes(to / "study.sqlite", content)
        checked = check_folder(to)
        now = content, sorted(file.name for name in STATES for file in (folder / name).glob("*.state"))
        if not checked.problems or now == before:
            break
        before = now
    return checked


def _make_room(to: Path) -> None:
    try:
        to.mkdir(parents=True, exist_ok=True)
        entries = sorted(entry.name for entry in to.iterdir())
        for name in () if entries else STATES:
            (to / name).mkdir()
    except OSError as error:
        raise StoreError(f"{to}: cannot be made ({error.strerror}){who_may_write(to)}; give a new folder.") from None
    if entries:
        raise StoreError(f"{to}: is not empty (it has {listed(entries)}); a backup needs a folder of its own.")


def _copy_states(folder: Path, to: Path, count: int) -> None:
    """Make the states in `to` those of the first `count` trials of a study."""
    for name in STATES:
        present = {file.name for file in _states_of(to / name, count)}
        for file in _states_of(folder / name, count):
            present.discard(file.name)
            _copy(file, to / name / file.name)
        for left in present:
            (to / name / left).unlink()


def _states_of(folder: Path, count: int) -> Iterator[Path]:
    """Yield the files of the states of the first `count` trials."""
    for file in sorted(folder.glob("[0-9]*-*.state")):
        number = file.name.partition("-")[0]
        if number.isdecimal() and int(number) < count:
            yield file


def _copy(file: Path, to: Path) -> None:
    """Copy a file that is never changed, unless it is removed meanwhile, or copied already."""
    if to.exists():
        return
    if file.is_symlink():
        raise StoreError(f"{file}: is a symbolic link, and tuneflow makes none; remove it, or put its file there.")
    try:
        content = content_of(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{file}: cannot be read ({error.strerror}).") from None
    write_bytes(to, content)
