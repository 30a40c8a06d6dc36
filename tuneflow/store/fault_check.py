"""Check of a file system for what a study needs: locks, whole files, syncs, nothing lost when a process is killed."""

import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tuneflow.errors import CheckpointError, StoreError, in_one_line, plural
from tuneflow.store import fault_process as requests
from tuneflow.store.checkpoints import read, write
from tuneflow.store.fault_process import FAULTS, OtherProcess
from tuneflow.store.sqlite_file import NETWORK, file_system, who_may_write
from tuneflow.train.job import TrainState

SYNCS, NAMES, COMMITS, FOLDERS, CLAIMS, ENDS = 20, 200, 50, 5, 40, 20
READING = 0.5  # seconds of reading a file that is replaced meanwhile

Pair = tuple[OtherProcess, OtherProcess]
Outcome = tuple[bool, str]  # True if it is as a study needs it; and the result in words


@dataclass(frozen=True)
class FaultResult:
    """The result of one check.

    Attributes:
        name: what was checked.
        sound: True if it is as a study needs it.
        result: it in words.
        seconds: how long the check took.
    """

    name: str
    sound: bool
    result: str
    seconds: float


def check_faults(folder: Path) -> Iterator[FaultResult]:
    """Yield a result for each check of the file system that a folder is on.

    All is done in a new folder inside of it, by two processes, and removed at the end. A study that runs in the folder
    meanwhile is left alone. A folder that is not there is made, and removed again.

    Args:
        folder: where studies are, or are to be kept.

    Raises:
        StoreError: nothing can be written there.
    """
    with _room_in(folder.expanduser()) as room, _two_processes() as pair:
        for name, check in CHECKS.items():
            yield _result(name, check, room / str(len(list(room.iterdir()))), pair)


def verdict(results: Iterable[FaultResult]) -> str:
    """Return what follows from the results in a line."""
    unsound = [result.name for result in results if not result.sound]
    answer = f"no ({', '.join(unsound)})" if unsound else "yes"
    return f"safe for several processes on this machine: {answer}; for several machines: not tested here"


def _result(name: str, check: Callable[[Path, Pair], Outcome], room: Path, pair: Pair) -> FaultResult:
    started = time.monotonic()
    try:
        room.mkdir()
        sound, text = check(room, pair)
    except FAULTS as error:
        sound, text = False, in_one_line(error)
    return FaultResult(name, sound, text, time.monotonic() - started)


@contextmanager
def _two_processes() -> Iterator[Pair]:
    pair = OtherProcess(), OtherProcess()
    try:
        yield pair
    finally:
        for process in pair:
            process.kill()


@contextmanager
def _room_in(folder: Path) -> Iterator[Path]:
    """A new folder inside of `folder`; what was not there before is removed at the end."""
    missing = [part for part in (folder, *folder.parents) if not os.path.lexists(part)]
    try:
        with _new_room(folder) as room:
            yield Path(room)
    finally:
        for part in missing:
            with suppress(OSError):
                part.rmdir()


def _new_room(folder: Path) -> TemporaryDirectory[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=".fault-check-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        reason = f"{error.strerror or error}{who_may_write(folder)}"
        raise StoreError(
            f"{folder}: its file system cannot be checked, as no folder can be made there ({reason})."
        ) from None


# The checks.


def _kind(room: Path, _: Pair) -> Outcome:
    kind, free = file_system(room / "file"), shutil.disk_usage(room).free
    network = ", of a network, without WAL" if kind in NETWORK else ""
    return True, f"{kind or 'of a kind that the system does not show'}{network}; {free / 1e9:.1f} GB free"


def _syncs(room: Path, _: Pair) -> Outcome:
    seconds: list[float] = []
    with (room / "file").open("wb") as file:
        while len(seconds) < SYNCS:
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return True, f"median of {SYNCS}: {statistics.median(seconds) * 1e3:.2f} ms"


def _starts(_: Path, pair: Pair) -> Outcome:
    for process in pair:
        process.ask(requests.ready)
    numbers = {process.answer() for process in pair}
    return len(numbers) == 2, "two, from nothing"


def _names(room: Path, pair: Pair) -> Outcome:
    for process in pair:
        process.ask(requests.new_names, room, NAMES)
    return _each_once([process.answer() for process in pair], NAMES, "names", "made by both")


def _each_once(parts: list[set[int]], count: int, things: str, doubled: str) -> Outcome:
    """Return the outcome of things of which each had to be had by one process."""
    one, other = parts
    both, missing = len(one & other), count - len(one | other)
    wrong = [f"{both} {doubled}"] * bool(both) + [f"{missing} missing"] * bool(missing)
    return not wrong, ", ".join(wrong) or f"{count} {things}, each once"


def _replaced(room: Path, pair: Pair) -> Outcome:
    writer, reader = pair
    writer.answer_to(requests.replace_often, room / "file", 0.0)
    writer.ask(requests.replace_often, room / "file", READING)
    reader.ask(requests.read_often, room / "file", READING)
    written = writer.answer()
    read_times, torn, contents = reader.answer()
    if torn:
        return False, f"{torn} of {read_times} readings found a file that was not whole"
    if written > 20 and contents < 2:
        return False, f"of {written} new contents another process saw none"
    return (
        True,
        f"replaced {plural(written, 'time')}, read {plural(read_times, 'time')} by another process, always whole",
    )


def _locks(room: Path, pair: Pair) -> Outcome:
    one, other = pair
    path = room / "study.sqlite"
    if not one.answer_to(requests.take_lock, path):
        return False, "a lock of a new file is refused"
    if other.answer_to(requests.take_lock, path):
        return False, "two processes had the same lock"
    one.answer_to(requests.drop_lock)
    if not other.answer_to(requests.take_lock, path):
        return False, "a lock is kept after its owner has dropped it"
    other.answer_to(requests.drop_lock)
    return True, "one process at a time"


def _commits(room: Path, pair: Pair) -> Outcome:
    writer, reader = pair
    path, late = room / "study.sqlite", 0
    for key in map(str, range(COMMITS)):
        writer.answer_to(requests.commit, path, key)
        late += not reader.answer_to(requests.sees, path, key)
    with closing(sqlite3.connect(path)) as database:
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    kind = file_system(path)
    why = f", as {kind} is a file system of a network" if kind in NETWORK else ""
    seen = f"{late} of {COMMITS} were not" if late else f"all {COMMITS} were"
    return late == 0, f"journal {mode}{why}; {seen} seen at once by another process"


def _new_studies(room: Path, pair: Pair) -> Outcome:
    for place in range(FOLDERS):
        (room / str(place)).mkdir()
        for process in pair:
            process.ask(requests.claim_all, room / str(place) / "study.sqlite", CLAIMS)
        sound, text = _each_once([process.answer() for process in pair], CLAIMS, "trials", "claimed by both")
        if not sound:
            return False, text
    return True, f"{FOLDERS} opened by both at once, {CLAIMS} trials each, each once"


def _state(room: Path, pair: Pair) -> Outcome:
    path, weights = room / "000000-000001.state", torch.arange(2**16, dtype=torch.float64)
    write(path, TrainState(1, {"weights": weights}))
    if pair[0].answer_to(requests.state_sum, path) != float(weights.sum()):
        return False, "another process reads other weights"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    try:
        read(path)
    except CheckpointError:
        return True, "read by another process to the same digits; a flipped bit is noticed"
    return False, "a flipped bit is not noticed"


def _killed(room: Path, pair: Pair) -> Outcome:
    killed, other = pair
    path = room / "study.sqlite"
    killed.ask(requests.end_trials, path)
    written = {killed.answer() for _ in range(ENDS)}
    killed.kill()
    written |= set(killed.last_answers())
    ended, freed, judgment = other.answer_to(requests.read_back, path)
    if judgment != "ok":
        return False, f"the database is damaged: {judgment}"
    if lost := written - ended:
        return False, f"{len(lost)} of {plural(len(written), 'trial')} lost"
    free = f", and {len(freed)} under way free again" if freed else ""
    return True, f"of {plural(len(written), 'trial')} none lost{free}"


CHECKS: dict[str, Callable[[Path, Pair], Outcome]] = {
    "file system": _kind,
    "sync to the disk": _syncs,
    "processes": _starts,
    "new names": _names,
    "a file replaced": _replaced,
    "locks": _locks,
    "commits": _commits,
    "new studies": _new_studies,
    "a state": _state,
    "kill -9": _killed,  # last, as it ends a process
}
