"""The way out for trials of a dead machine: they are free at once, by its name."""

from contextlib import closing
from pathlib import Path

from tuneflow.errors import StoreError, listed
from tuneflow.store.owner import OwnerName
from tuneflow.store.sqlite import SqliteStore


def free_owners(folder: Path, name: str) -> list[str]:
    """Free the trials of owners that are dead, and the study where one ran it alone; return a line for each owner.

    An owner that is alive after all loses nothing but its work: it cannot write these trials any more.

    Args:
        folder: the study's.
        name: the name of their host, or the whole name of one.

    Raises:
        StoreError: there is no study, no such owner, or one that runs on this machine.
    """
    path = folder / "study.sqlite"
    if not path.is_file():
        raise StoreError(f"{folder}: holds no study (there is no study.sqlite in it).")
    with closing(SqliteStore(path)) as store:
        freed = store.free(name)
        others = listed(map(str, store.waiting()))
    if not freed:
        raise StoreError(f"{folder}: no trial under way is of a host or owner {name!r}; the study waits for {others}.")
    return [_line(folder, owner, trials) for owner, trials in freed.items()]


def _line(folder: Path, owner: str, trials: list[int]) -> str:
    what = f"trial{'s' if len(trials) > 1 else ''} {listed(map(str, trials))}" if trials else "the study"
    return f"{folder}: {what} of {OwnerName.of(owner)} {'are' if len(trials) > 1 else 'is'} free; the next run goes on"
