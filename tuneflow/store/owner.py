"""Who works on a trial: a process, named so that anyone on the machine can tell whether it still lives."""

import getpass
import itertools
import os
import socket
import stat
from pathlib import Path

_count = itertools.count()
_working: set[str] = set()  # the owners of this process that have not left


def new_owner() -> str:
    """A name for one study object of this process: `host/pid/start time/count`."""
    owner = f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{next(_count)}"
    _working.add(owner)
    return owner


def leave(owner: str) -> None:
    """What is still this owner's is free, as if its process had died."""
    _working.discard(owner)


def is_alive(owner: str) -> bool:
    """Whether the process behind `owner` still runs; one on another host is taken to.

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
    """When the process started, in the kernel's ticks; empty where the system does not tell, "dead" of one that died
    and was not waited for."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "dead" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""


def may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def who_may_write(path: Path) -> str:
    """The end of a message about `path`, where this process lacks the right to write; empty where it has it.

    `; alice may not write /data, which belongs to bob (drwxr-xr-x)`
    """
    place = path
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    if may_write(place):
        return ""
    try:
        user, owner, mode = getpass.getuser(), place.owner(), stat.filemode(place.stat().st_mode)
    except (OSError, KeyError):
        return f"; you may not write {place}"
    return f"; {user} may not write {place}, which belongs to {owner} ({mode})"
