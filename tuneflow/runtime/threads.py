"""CPU threads: how many there are, and the block in which torch uses a given number."""

import os
import struct
from typing import Any

import torch

from tuneflow.errors import plural
from tuneflow.validate import check_whole

CARRIED, EACH = 256, 16  # threads or workers that any machine is taken to carry, and those for each of its cores
(SMALLEST,) = struct.unpack("<d", b"\1" + bytes(7))  # above 0, denormal; by its bits, whatever becomes of such here


class Threads:
    """A block in which torch uses `count` threads, or as many as before where that is None.

    Where that is one, denormal numbers (in float32 those below 1.2e-38) count as 0 in it, Python's and NumPy's among
    them: on some processors, weights that die out make a product of matrices a hundred times slower. Where there are
    more threads nothing is changed about it, since torch reaches only the one that calls, and not its helpers.
    """

    __slots__ = ("_before", "_count", "_flushed")

    def __init__(self, count: int | None) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._before, self._flushed = torch.get_num_threads(), flushes()
        if self._count is not None and self._count != self._before:
            torch.set_num_threads(self._count)
        if not self._flushed and (self._count or self._before) == 1:
            torch.set_flush_denormal(True)

    def __exit__(self, *_: object) -> None:
        if torch.get_num_threads() != self._before:
            torch.set_num_threads(self._before)
        if flushes() != self._flushed:
            torch.set_flush_denormal(self._flushed)


def flushes() -> bool:
    """True if denormal numbers count as 0 in this thread."""
    return bool(SMALLEST * 1.0 == 0.0)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_count(name: str, value: Any, otherwise: str) -> int:
    """Return a number of threads or processes of this machine, if it is a whole one that the machine can carry.

    Args:
        name: the argument as the message shows it, such as `Runtime: workers`.
        value: the argument.
        otherwise: what leaving it out gives.

    Raises:
        ValueError: it is anything else.
    """
    count, most = check_whole(name, value, otherwise=otherwise), max(CARRIED, EACH * cores())
    if count > most:
        raise ValueError(f"{name} needs to be at most {most}, as there are {plural(cores(), 'core')}, got {count}.")
    return count


def share(workers: int) -> int:
    """Return the number of threads for each of so many workers."""
    return max(1, min(cores() // workers, torch.get_num_threads()))
