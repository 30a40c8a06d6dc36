"""Owners of trials: processes, named so that another one can see whether they are still alive."""

import itertools
import os
import secrets
import socket
from pathlib import Path
from typing import NamedTuple

_count = itertools.count()
_working: set[str] = set()  # the owners of this process that have not left
_keys: dict[int, str] = {}  # by process, what stands for its start time where the system does not show that


class OwnerName(NamedTuple):
    """The parts of an owner's name; any that the system does not show is empty.

    Attributes:
        host: the name of the machine or container.
        boot: the id of the kernel's start.
        namespace: the number of the namespace that the process's number is of.
        pid: the process's number.
        started: the process's start time in the kernel's ticks.
        study: tells the study objects of a process apart.
    """

    host: str
    boot: str
    namespace: str
    pid: str
    started: str
    study: str

    @classmethod
    def of(cls, owner: str) -> "OwnerName":
        """Return the parts of a name; of one that is damaged it is all one."""
        parts = str(owner).split("/")  # a damaged one may be bytes
        return cls(*parts) if len(parts) == len(cls._fields) else cls(str(owner), "", "", "", "", "")

    @property
    def is_here(self) -> bool:
        """True if its process has a number among those of this process's namespace, since the same start."""
        return "" not in self[:3] and self[:3] == _machine() and self.pid.isdecimal()

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"


def new_owner() -> str:
    """Return a name for one study object of this process: `host/boot id/pid namespace/pid/start time/count`."""
    owner = f"{_this_process()}/{next(_count)}"
    _working.add(owner)
    return owner


def leave(owner: str) -> None:
    """Free the owner's trials, as if its process had died."""
    _working.discard(owner)


def lives(owner: str) -> bool | None:
    """True while the process behind `owner` runs, where this process can see it; None where only its beats tell.

    It can see those of the same host, boot and namespace. The start time tells a process from a later one with the same
    number.
    """
    if str(owner).rpartition("/")[0] == _this_process():
        return owner in _working
    name = OwnerName.of(owner)
    return _runs(int(name.pid), name.started) if name.is_here else None


def _runs(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _started(pid) in (started, "")


def _this_process() -> str:
    pid = os.getpid()
    started = _started(pid) or _keys.setdefault(pid, secrets.token_hex(8))
    return "/".join([*_machine(), str(pid), started])


def _machine() -> tuple[str, str, str]:
    """Return host, boot id and namespace of this process."""
    return socket.gethostname().replace("/", "_"), _boot(), _namespace()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Return the number of this process's pid namespace, with that of its clocks; empty if /proc is of another one."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        return _digits(os.readlink("/proc/self/ns/pid")) + _clocks()
    except OSError:
        return ""


def _clocks() -> str:
    """Return the number of the time namespace, in which start times are counted; empty in kernels without any."""
    try:
        return f"-{_digits(os.readlink('/proc/self/ns/time'))}"
    except OSError:
        return ""


def _digits(link: str) -> str:
    return "".join(filter(str.isdecimal, link))


def _started(pid: int) -> str:
    """Return the process's start time in the kernel's ticks; empty where the system does not show it.

    "dead" for a process that died and was not waited for.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "dead" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""
