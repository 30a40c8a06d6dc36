"""Who works on a trial: a process, named so that anyone on the machine can tell whether it still lives."""

import itertools
import os
import socket
from pathlib import Path

_count = itertools.count()


def new_owner() -> str:
    """A name for one study object of this process: `host/pid/start time/count`."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{next(_count)}"


def is_alive(owner: str) -> bool:
    """Whether the process behind `owner` still runs; one on another host is taken to.

    The start time tells a process from a later one with the same number.
    """
    host, pid, started, _ = owner.split("/")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(int(pid)) in (started, "")


def _started(pid: int) -> str:
    """When the process started, in the kernel's ticks; empty where the system does not tell, "dead" of one that died
    and was not waited for."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "dead" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""
