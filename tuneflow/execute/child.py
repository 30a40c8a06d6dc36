"""A worker process as its parent sees it: starting, idle, training a slice, or leaving one that was stopped."""

import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from tuneflow.execute.assignment import Assignment
from tuneflow.execute.bench import Settings, Task
from tuneflow.execute.wire import Parcel, send
from tuneflow.execute.worker import NAME, STOP, serve
from tuneflow.runtime import Runtime

GRACE = 5.0  # seconds that a process has to leave by itself

SPAWN = multiprocessing.get_context("spawn")


class Child:
    """A process of its own, started when this is made.

    Attributes:
        work: what it trains, or will as soon as it is idle; None for nothing, and for a slice that was stopped.
        training: `work` has been sent to it.
        idle: it waits for a message. Only then is anything large sent: two that both send would wait for each other.
        ready: it has come so far once.
        heard: when it last said something, by time.monotonic.
        overdue: why it was killed from here; empty when it was not.
    """

    def __init__(self, runtime: Runtime, number: int) -> None:
        self.work: Assignment | None = None
        self.training = self.idle = self.ready = False
        self.heard, self.overdue = time.monotonic(), ""
        self._has: set[int] = set()
        self.pipe, theirs = SPAWN.Pipe()
        given = (theirs, runtime.of_a_worker(), Settings.current())
        self.process = SPAWN.Process(target=serve, args=given, name=f"{NAME} {number}")
        with theirs, _signals_held():
            self.process.start()

    @property
    def at_work(self) -> bool:
        """Whether it trains, or finishes the epoch of a slice that was stopped."""
        return self.ready and not self.idle

    def begin(self, parcel: Parcel) -> None:
        """Send it its work, with the trainer and the model where it has not got them yet."""
        work = self.work
        if work is None:
            return
        self.idle, self.heard = False, time.monotonic()
        try:
            new = work.parcel not in self._has
            send(self.pipe, Task(work.parcel, new, work.work, work.given, work.state))
            if new:
                parcel.send(self.pipe, self.process.pid or 0)
                self._has.add(work.parcel)
            self.training = True
        except OSError:
            pass  # it is dead, which is found out when it is listened to

    def stop(self) -> None:
        """Drop its work."""
        if self.training:
            try:
                send(self.pipe, STOP)
            except OSError:
                pass
        self.work, self.training = None, False

    def rest(self) -> None:
        """It said that it is idle."""
        self.idle, self.ready = True, True
        if self.training:
            self.work, self.training = None, False

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


def end(children: Iterable[Child]) -> None:
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


def bury(child: Child) -> None:
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
