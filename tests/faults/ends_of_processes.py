"""Ways in which a process ends in the middle of a trial; workers import them by name."""

import ctypes
import os
import signal

import torch

import tuneflow as tn
from tuneflow.train.function_trainer import Function

GIGABYTE = 2**30


def run_out_of_memory():
    """Ask for more memory than the system may give."""
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + GIGABYTE // 8, before[1]))
    try:
        torch.empty(GIGABYTE)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def raise_memory_error():
    raise MemoryError


DEATHS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "leave": lambda: os._exit(3),
}
ERRORS = {"exit": lambda: exit(3), "out of memory": run_out_of_memory, "memory error": raise_memory_error}


def objective(end):
    """Ends its process as the configuration wants it."""
    (DEATHS | ERRORS).get(end, int)()
    return float(len(end))


def make(ends, folder=None, runtime=None):
    """A study that tries these ends, in order."""
    return tn.Study(
        space=tn.SearchSpace(end=tn.Choice(list(ends))),
        trainer=Function(objective),
        searcher=tn.Grid(),
        minimize="value",
        folder=folder,
        runtime=runtime or tn.Runtime("cpu", threads=1),
        progress=False,
    )
