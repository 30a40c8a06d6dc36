"""The worker process: it receives commands, trains, and sends replies."""

import os
import signal
import threading
from multiprocessing import current_process, parent_process
from typing import Any

import torch

from tuneflow.errors import in_one_line
from tuneflow.execute.workers.messages import LOST, Command, ProcessSettings
from tuneflow.execute.workers.pickling import Pipe, pack, receive, receive_shared, send
from tuneflow.execute.workers.worker import Worker
from tuneflow.runtime.devices import DeviceLost, check_responds
from tuneflow.runtime.runtime import Runtime

NAME = "tuneflow worker"  # what the names of worker processes begin with
UNGUARDED = 97  # exit status of a worker whose script starts a study while it is imported

HALT, IDLE, BEGUN = "halt", "idle", "begun"  # to a worker: wait for a command; from it: it waits, an epoch begins

_serving = False


def leave_if_imported() -> None:
    """End this process if it is a worker that still imports its script: the script has no main guard.

    The parent process knows the exit status, and explains it once.
    """
    if current_process().name.startswith(NAME) and not _serving:
        raise SystemExit(UNGUARDED)


def serve(pipe: Pipe, arguments: dict[str, Any], settings: ProcessSettings) -> None:
    """Run a worker until its pipe is closed, or its parent is gone.

    Args:
        pipe: to the parent.
        arguments: those of its Runtime.
        settings: its parent's.
    """
    global _serving
    _serving = True
    _leave_signals_to_the_parent()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if hasattr(os, "register_at_fork"):  # else a loader's process could hold the pipe open when this one is killed
        os.register_at_fork(after_in_child=pipe.close)
    torch.set_num_threads(arguments["threads"])
    settings.apply()
    try:
        _WorkerLoop(pipe, _runtime(arguments)).run()
    except DeviceLost as lost:
        send(pipe, lost)
        os._exit(LOST)  # an orderly end may need the device
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has no more work, or is gone


def _runtime(arguments: dict[str, Any]) -> Runtime:
    """Return the runtime of this process; raise DeviceLost if its device cannot be used."""
    try:
        runtime = Runtime(**arguments)
    except Exception as error:
        raise DeviceLost(in_one_line(error)) from error
    if runtime.device.type == "cuda":
        torch.cuda.set_device(runtime.device)  # what says "cuda" means this one
    check_responds(runtime.device)
    return runtime


def _leave_signals_to_the_parent() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal, and SIGTERM, which a cluster sends to all of a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # unlike SIG_IGN, not inherited by programs it starts
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _WorkerLoop:
    """The loop of a worker: it trains until it has room for another slice, or is halted; then it waits."""

    def __init__(self, pipe: Pipe, runtime: Runtime) -> None:
        self._pipe, self._worker = pipe, Worker(runtime)
        self._begun = False  # an epoch, since the last command
        runtime.on_epoch = self._begin

    def run(self) -> None:
        send(self._pipe, IDLE)
        while True:
            self._wait()
            while not self._train():
                pass

    def _wait(self) -> None:
        """Wait for a command that can be loaded."""
        while True:
            command = receive(self._pipe)
            if not isinstance(command, Command):
                continue  # a HALT that came while it waited already
            failure = self._worker.take(command, lambda: receive_shared(self._pipe))
            self._begun = False
            if failure is None:
                return
            send(self._pipe, failure)

    def _begin(self) -> None:
        """Report the first epoch after a command: what it needed is imported, loaded and built."""
        if not self._begun:
            self._begun = True
            send(self._pipe, BEGUN)

    def _train(self) -> bool:
        """Train until there is a reply, and send it; return True if a command is to be awaited."""
        reply, packed = self._worker.train(pack)
        send(self._pipe, packed)
        if reply.waits:
            return True
        if not self._pipe.poll():
            return False
        receive(self._pipe)  # nothing but HALT is sent to it now
        send(self._pipe, IDLE)
        return True
