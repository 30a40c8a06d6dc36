"""ProcessProxy: the parent's handle of a worker process, which is starting, idle or training."""

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import torch
from typing_extensions import override

from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.processes.worker_process import HALT, NAME, serve
from tuneflow.execute.workers.assignment import Assignment, SharedObjects
from tuneflow.execute.workers.main_module import hidden_unless_imported
from tuneflow.execute.workers.messages import ProcessSettings
from tuneflow.execute.workers.pickling import SharedObject, send
from tuneflow.execute.workers.worker_proxy import WorkerProxy
from tuneflow.runtime.devices import DeviceLost, shown_alone
from tuneflow.runtime.runtime import Runtime

GRACE = 5.0  # seconds in which a process can leave by itself

SPAWN = multiprocessing.get_context("spawn")


class ProcessProxy(WorkerProxy):
    """A worker process, started by the constructor.

    Args:
        runtime: the study's; the process makes its own by `runtime.of_a_worker()`.
        number: the worker's, with which the name of the process ends.
        device: the one that it trains on.
        alone: the device that it is to see alone; None for all.

    Attributes:
        started: when it was started, by time.monotonic.
        lost_device: how it lost its device; None if it did not.
        idle: it waits for a command. Only then is anything large sent: two that both send would wait for each other.
    """

    def __init__(self, runtime: Runtime, number: int, device: torch.device, alone: torch.device | None = None) -> None:
        super().__init__(runtime.slots, number)
        self.idle = self._halted = self.begun = False
        self.device, self.started = device, time.monotonic()
        self.lost_device: DeviceLost | None = None
        self.pipe, theirs = SPAWN.Pipe()
        with theirs, _signals_held(), hidden_unless_imported(), shown_alone(alone):
            arguments = (theirs, runtime.of_a_worker(), ProcessSettings.current(runtime.dtype))
            self.process = SPAWN.Process(target=serve, args=arguments, name=f"{NAME} {number}")
            self.process.start()

    @override
    def takes(self, work: Assignment) -> bool:
        return super().takes(work) and work.avoids != self.device

    def begin(self, shared: SharedObjects[SharedObject], engines: EngineCache, workers: int) -> None:
        """Send it all its work, with trainers and models that it does not have yet."""
        self.idle, self._halted, self.begun, self.last_message = False, False, False, time.monotonic()
        before = set(self.training)
        command = self.command(engines, workers)
        try:
            send(self.pipe, command)
            for task in command.tasks:
                if task.attached:
                    shared[task.shared].send(self.pipe, self.process.pid or 0)
        except OSError:
            self.training = before  # it is dead, which the next receive finds out

    @property
    @override
    def at_work(self) -> bool:
        return not self.idle  # while it starts, too

    @override
    def stop(self, trial: int | None = None) -> None:
        super().stop(trial)
        if self.stops:
            self.halt()

    def halt(self) -> None:
        """Have it wait for a command as soon as an epoch is over."""
        if self.idle or self._halted:
            return
        self._halted = True
        with suppress(OSError):
            send(self.pipe, HALT)

    def mark_idle(self) -> None:
        """Record that it waits for a command."""
        self.idle, self.ready, self._halted = True, True, False

    @override
    def kill(self, why: str) -> None:
        self.overdue = why
        self.process.kill()

    def exit_reason(self) -> str:
        """Description of its end, such as "exited with status 3"."""
        code = self.process.exitcode or 0
        if self.overdue:
            return self.overdue
        if self.lost_device is not None:
            return f"lost {self.device} ({self.lost_device.reason})"
        if code >= 0:
            return f"exited with status {code}"
        memory = "; is there enough memory?" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name} (signal {-code}{memory})"


def end_all(children: Sequence[ProcessProxy]) -> None:
    """End processes: idle ones leave by themselves, those at work are killed."""
    for child in children:
        if child.idle:
            child.pipe.close()
        else:
            child.process.kill()
    for child in children:
        reap(child)
        child.process.close()


def reap(child: ProcessProxy) -> None:
    """Wait for a process that is about to end; kill it if it does not."""
    child.process.join(GRACE)
    if child.process.exitcode is None:
        child.process.kill()
        child.process.join()
    child.pipe.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """A block in which a process starts with Ctrl-C and SIGTERM blocked, until it has set its handlers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it is started within, and lets the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
