"""A worker process: it trains its slices as its runtime's own executor does, and sends back what happened."""

import os
import signal
import threading
from multiprocessing import current_process, parent_process
from typing import Any

import torch

from tuneflow.execute.workers.messages import Command, ProcessSettings
from tuneflow.execute.workers.pickling import Pipe, pack, receive, receive_parcel, send
from tuneflow.execute.workers.worker import Worker
from tuneflow.runtime.runtime import Runtime

NAME = "tuneflow worker"  # what the names of worker processes begin with
UNGUARDED = 97  # exit status of a worker whose script starts a study while it is imported

HALT, IDLE = "halt", "idle"  # to a worker: wait to be told what is next; from it: it does

_serving = False


def leave_if_imported() -> None:
    """End this process when it is a worker that still imports its script: the script has no main guard.

    The parent process knows the exit status, and says it once.
    """
    if current_process().name.startswith(NAME) and not _serving:
        raise SystemExit(UNGUARDED)


def serve(pipe: Pipe, given: dict[str, Any], settings: ProcessSettings) -> None:
    """The life of a worker; it ends when the pipe is closed, or its parent is gone.

    Args:
        given: the arguments of its Runtime.
    """
    global _serving
    _serving = True
    _leave_signals_to_the_parent()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if hasattr(os, "register_at_fork"):  # else a loader's process could hold the pipe open when this one is killed
        os.register_at_fork(after_in_child=pipe.close)
    torch.set_num_threads(given["threads"])
    settings.apply()
    try:
        _WorkerLoop(pipe, Runtime(**given)).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has no more work, or is gone


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches every process of a terminal, and a cluster's SIGTERM every one of a job; the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # unlike SIG_IGN, not inherited by programs it starts
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _WorkerLoop:
    """It trains on by itself until it has room for another slice, or is halted; then it waits for orders."""

    def __init__(self, pipe: Pipe, runtime: Runtime) -> None:
        self._pipe, self._bench = pipe, Worker(runtime)

    def run(self) -> None:
        send(self._pipe, IDLE)
        while True:
            self._wait()
            while not self._train():
                pass

    def _wait(self) -> None:
        """Until there are orders, and all of them can be read."""
        while True:
            orders = receive(self._pipe)
            if not isinstance(orders, Command):
                continue  # it was halted when it waited already
            misread = self._bench.take(orders, lambda: receive_parcel(self._pipe))
            if misread is None:
                return
            send(self._pipe, misread)

    def _train(self) -> bool:
        """Until there is something to tell; whether to wait for orders then."""
        told, packed = self._bench.train(pack)
        send(self._pipe, packed)
        if told.waits:
            return True
        if not self._pipe.poll():
            return False
        receive(self._pipe)  # nothing but HALT is sent to it now
        send(self._pipe, IDLE)
        return True
