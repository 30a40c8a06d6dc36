"""Owners of trials: processes, named so that any other one on the machine can see whether they are still alive."""

import itertools
import os
import socket
from pathlib import Path

_count = itertools.count()
_working: set[str] = set()  # the owners of this process that have not left


def new_owner() -> str:
    """Return a name for one study object of this process: `host/pid/start time/count`."""
    owner = f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{next(_count)}"
    _working.add(owner)
    return owner


def leave(owner: str) -> None:
    """Free the owner's trials, as if its process had died."""
    _working.discard(owner)


def is_alive(owner: str) -> bool:
    """True if the process behind `owner` still runs; one on another host is taken to.

    The start time tells a process from a later one with the same number.
    """
    host, pid, started, _ = owner.split("/")
    if host != socket.gethostname():
        return True
    if int(pid) == os.getpid() and started == _started(os.getpid()):
        return owner in _working
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(int(pid)) in (started, "")


def _started(pid: int) -> str:
    """Return the process's start time in the kernel's ticks; empty where the system does not show it.

    "dead" for a process that died and was not waited for.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "dead" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""
