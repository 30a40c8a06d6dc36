"""A worker process as its parent sees it: starting, idle, or training slices."""

import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.processes.worker_process import HALT, NAME, serve
from tuneflow.execute.workers.assignment import SharedObjects
from tuneflow.execute.workers.messages import ProcessSettings
from tuneflow.execute.workers.pickling import SharedObject, send
from tuneflow.execute.workers.worker_proxy import WorkerProxy
from tuneflow.runtime.runtime import Runtime

GRACE = 5.0  # seconds that a process has to leave by itself

SPAWN = multiprocessing.get_context("spawn")


class ProcessProxy(WorkerProxy):
    """A process of its own, started when this is made.

    Attributes:
        idle: it waits for orders. Only then is anything large sent: two that both send would wait for each other.
        ready: it has come so far once.
        heard: when it last said something, by time.monotonic.
        overdue: why it was killed from here; empty when it was not.
    """

    def __init__(self, runtime: Runtime, number: int) -> None:
        super().__init__(runtime.seats)
        self.idle = self.ready = self._halted = False
        self.heard, self.overdue = time.monotonic(), ""
        self.pipe, theirs = SPAWN.Pipe()
        given = (theirs, runtime.of_a_worker(), ProcessSettings.current())
        self.process = SPAWN.Process(target=serve, args=given, name=f"{NAME} {number}")
        with theirs, _signals_held():
            self.process.start()

    @property
    def at_work(self) -> bool:
        """Whether it trains, or finishes the epoch of a slice that was stopped."""
        return self.ready and not self.idle

    def begin(self, parcels: SharedObjects[SharedObject], notes: EngineCache, workers: int) -> None:
        """Have it go on with all its work; with the trainer and the model of a task where it has not got them yet."""
        self.idle, self._halted, self.heard = False, False, time.monotonic()
        before = set(self.training)
        orders = self.orders(notes, workers)
        try:
            send(self.pipe, orders)
            for task in orders.tasks:
                if task.follows:
                    parcels[task.parcel].send(self.pipe, self.process.pid or 0)
        except OSError:
            self.training = before  # it is dead, which is found out when it is listened to

    def stop(self, trial: int | None = None) -> None:
        """Drop a slice, or all."""
        for number in list(self.work) if trial is None else [trial]:
            if self.drop(number):
                self.halt()

    def halt(self) -> None:
        """Have it wait for orders as soon as an epoch is over; it does not train beyond a stop."""
        if self.idle or self._halted:
            return
        self._halted = True
        try:
            send(self.pipe, HALT)
        except OSError:
            pass

    def rest(self) -> None:
        """It said that it is idle."""
        self.idle, self.ready, self._halted = True, True, False

    def kill(self, why: str) -> None:
        self.overdue = why
        self.process.kill()

    def fate(self) -> str:
        """How it ended, in words."""
        code = self.process.exitcode or 0
        if self.overdue:
            return self.overdue
        if code >= 0:
            return f"exited with status {code}"
        memory = "; is there enough memory?" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name} (signal {-code}{memory})"


def end(children: Iterable[ProcessProxy]) -> None:
    """End processes: those that are idle leave by themselves, those at work are killed."""
    children = list(children)
    for child in children:
        if child.idle:
            child.pipe.close()
        else:
            child.process.kill()
    for child in children:
        bury(child)
        child.process.close()


def bury(child: ProcessProxy) -> None:
    """Wait for a process that is about to end; kill it when it does not."""
    child.process.join(GRACE)
    if child.process.exitcode is None:
        child.process.kill()
        child.process.join()
    child.pipe.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process started within begins with Ctrl-C and SIGTERM held back, until it has said what it does with them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it is started within, and lets the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
