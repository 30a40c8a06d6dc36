"""A worker process: it trains one slice at a time, as the inline executor does, and sends back what happened."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import current_process, parent_process
from typing import Any

import torch

from tuneflow.execute.executor import Ended, Event, Trains
from tuneflow.execute.inline import Inline, ended
from tuneflow.execute.wire import Pipe, Unreadable, loaded, receive, receive_parcel, send
from tuneflow.model import Model
from tuneflow.runtime import Runtime, flushes
from tuneflow.train.job import Job, TrainState
from tuneflow.trial import Slice

NAME = "tuneflow worker"  # what the names of worker processes begin with
UNGUARDED = 97  # exit status of a worker whose script starts a study while it is imported

STOP, IDLE = "stop", "idle"


@dataclass(frozen=True)
class Task:
    """Train a slice.

    Attributes:
        parcel: the number of its trainer and model.
        follows: they come next, as a parcel.
        given: config, seed, replica and trial of its job, pickled.
    """

    parcel: int
    follows: bool
    work: Slice
    given: bytes
    state: TrainState | None


@dataclass(frozen=True)
class Misread:
    """A worker's answer to what it could not unpickle."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Settings:
    """What a process sets as a whole and training depends on; a worker takes over its parent's.

    Attributes:
        flushes: whether denormal numbers count as 0, outside of a runtime's block.
        start: how data loaders start processes; a spawned process would spawn, which takes seconds an epoch.
    """

    dtype: torch.dtype
    precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    flushes: bool
    start: str

    @classmethod
    def current(cls) -> "Settings":
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(),
            (cudnn.benchmark, cudnn.deterministic),
            flushes(),
            multiprocessing.get_start_method(),
        )

    def apply(self) -> None:
        torch.set_default_dtype(self.dtype)
        if self.precision != torch.get_float32_matmul_precision():
            torch.set_float32_matmul_precision(self.precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        if self.flushes != flushes():
            torch.set_flush_denormal(self.flushes)
        multiprocessing.set_start_method(self.start, force=True)


_serving = False


def leave_if_imported() -> None:
    """End this process when it is a worker that still imports its script: the script has no main guard.

    The parent process knows the exit status, and says it once.
    """
    if current_process().name.startswith(NAME) and not _serving:
        raise SystemExit(UNGUARDED)


def serve(pipe: Pipe, given: dict[str, Any], settings: Settings) -> None:
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
        _Worker(pipe, Runtime(**given)).run()
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


class _Worker:
    def __init__(self, pipe: Pipe, runtime: Runtime) -> None:
        self._pipe, self._runtime, self._inline = pipe, runtime, Inline(runtime)
        self._loaded: dict[int, tuple[Trains, Model | None] | Misread] = {}

    def run(self) -> None:
        send(self._pipe, IDLE)
        while True:
            message = receive(self._pipe)
            if isinstance(message, Task):  # a stop may come when its slice has ended
                self._train(message)

    def _train(self, task: Task) -> None:
        if task.follows:
            self._loaded[task.parcel] = _read(lambda: receive_parcel(self._pipe))
        parcel, given = self._loaded[task.parcel], _read(lambda: loaded(task.given))
        if isinstance(parcel, Misread) or isinstance(given, Misread):
            send(self._pipe, parcel if isinstance(parcel, Misread) else given)
            return
        trainer, model = parcel
        config, seed, replica, trial = given
        job = Job(model, config, self._runtime, seed, replica, trial)
        self._inline.submit(task.work, trainer, job, task.state)
        while self._inline.busy:
            self._tell(self._inline.wait(), task.work.trial)
            if self._inline.busy and self._pipe.poll() and receive(self._pipe) == STOP:
                self._inline.close()
                send(self._pipe, IDLE)

    def _tell(self, events: list[Event], trial: int) -> None:
        try:
            send(self._pipe, events)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # a state or a report that cannot be pickled
            self._inline.close()
            failed: list[Ended] = [ended(trial, error, 0.0)]
            send(self._pipe, failed)


def _read(how: Callable[[], Any]) -> Any:
    try:
        return how()
    except Unreadable as error:
        cause = error.__cause__ or error
        return Misread(f"{type(cause).__name__}: {cause}", "".join(traceback.format_exception(cause)))
