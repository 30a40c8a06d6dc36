"""The executor of `Runtime(workers=...)`: long-lived worker processes, one slice each at a time."""

import math
import sys
import time
from multiprocessing import connection, util
from typing import Any

from tuneflow.errors import StudyError
from tuneflow.execute import sendable
from tuneflow.execute.assignment import STARTS, Assignment, Sent
from tuneflow.execute.bench import Misread
from tuneflow.execute.child import Child, bury, end
from tuneflow.execute.executor import Ended, Event, Reported, Trains
from tuneflow.execute.wire import Parcel, receive
from tuneflow.execute.worker import UNGUARDED
from tuneflow.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.trial import Slice


class Processes:
    """Trains in processes of its own. They are started when there is work for them, and live until `close`.

    Each trains as the inline executor does, with the same digits for the same number of threads. Trainer and model are
    sent to a process once, their data in memory that all of them share; the state after each epoch comes back with its
    report. A process goes on to the next epoch at once: what it trained beyond a stop is dropped.

    A process that dies takes its own epoch along and nothing else: another one goes on from the last state reported.
    A trial that loses two processes in the same epoch has failed. One that hangs is noticed by `timeout` only.

    Args:
        runtime: the device, the threads of each process, and what `workers` and `timeout` are by default.
        workers: how many processes, at least 1.
        timeout: seconds after which a process that sent no epoch is taken to hang, and killed; None for never.
    """

    def __init__(self, runtime: Runtime, workers: int | None = None, timeout: float | None = None) -> None:
        self._runtime = runtime
        self._most = (runtime.workers or 1) if workers is None else workers
        self._timeout = runtime.timeout if timeout is None else timeout
        self._children: list[Child] = []
        self._sent = Sent(sendable.parcel)
        self._lost = 0  # processes killed in a row before they were ready
        # When nobody holds this any more, and at exit before multiprocessing waits for its children.
        util.Finalize(self, _close, (self._children, self._sent), exitpriority=10)

    @property
    def free(self) -> int:
        return self._most - self.busy

    @property
    def busy(self) -> int:
        return sum(child.work is not None for child in self._children)

    def submit(self, work: Slice, trainer: Trains, job: Job, state: TrainState | None) -> None:
        """As Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: the script that runs cannot be imported by another process.
        """
        if not self.free:
            raise RuntimeError(f"all {self._most} workers have a slice each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._give(Assignment(number, work, sendable.packed(job), state))

    def wait(self) -> list[Event]:
        """As Executor.wait: what one process has to tell, an epoch at a time.

        Raises:
            StudyError: no process can be started, or it cannot load what it was sent; the message says why.
        """
        while self.busy:
            child = self._speaker()
            events = self._hear(child) if child is not None else []
            if events:
                return events
        return []

    def stop(self, trial: int) -> None:
        for child in self._children:
            if child.work is not None and child.work.work.trial == trial:
                child.stop()

    def close(self) -> None:
        """Drop every slice and end the processes: those that are idle leave, those at work are killed."""
        _close(self._children, self._sent)

    def _give(self, work: Assignment) -> None:
        """To a process that is idle, or a new one, or one that is still starting or leaving a slice."""
        able = sorted((child for child in self._children if child.work is None), key=lambda child: not child.idle)
        if not able or (not able[0].idle and len(self._children) < self._most):
            able = [Child(self._runtime, len(self._children))]
            self._children += able
        able[0].work = work
        self._begin(able[0])

    def _begin(self, child: Child) -> None:
        if child.idle and child.work is not None:
            child.begin(self._sent[child.work.parcel])

    # What the processes say.

    def _speaker(self) -> Child | None:
        """Of those that have something to say, the one heard longest ago; None when one was overdue."""
        by_pipe: dict[Any, Child] = {child.pipe: child for child in self._children}
        speaking = [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), self._patience())]
        if not speaking:
            self._kill_overdue()
        return min(speaking, key=lambda child: child.heard, default=None)

    def _patience(self) -> float | None:
        """Seconds until a process is overdue."""
        if self._timeout is None:
            return None
        heard = min((child.heard for child in self._children if child.at_work), default=math.inf)
        return max(0.0, heard + self._timeout - time.monotonic()) if math.isfinite(heard) else None

    def _kill_overdue(self) -> None:
        for child in self._children:
            if self._timeout is not None and child.at_work and time.monotonic() >= child.heard + self._timeout:
                child.kill(f"sent nothing for {self._timeout:g} seconds")

    def _hear(self, child: Child) -> list[Event]:
        message = _message(child)
        if message is None:
            return self._lose(child)
        told: list[Event] = message if isinstance(message, list) else []
        wanted = child.training  # else it is of a slice that was stopped
        for event in told if wanted else []:
            if isinstance(event, Reported) and child.work is not None:
                child.work.reached(event.state)
        if not told or isinstance(told[-1], Ended):
            self._lost = 0
            child.rest()
            self._begin(child)
        if isinstance(message, Misread) and wanted:
            raise message.error()
        return told if wanted else []

    def _lose(self, child: Child) -> list[Event]:
        """A process is gone: what it trained goes on in another, or has failed."""
        bury(child)
        self._children.remove(child)
        if not child.ready:
            self._check_start(child)
        work, seconds = child.work, time.monotonic() - child.heard
        if work is None:
            return []
        if child.training:
            ended = work.lost(child.fate(), seconds)
            if ended is not None:
                return [ended]
        self._give(work)
        return []

    def _check_start(self, child: Child) -> None:
        """Raise StudyError when starting another process has no prospect."""
        code = child.process.exitcode or 0
        script = getattr(sys.modules["__main__"], "__file__", "the script")
        if code == UNGUARDED:
            raise StudyError(
                f"Runtime: {script} starts a study when it is imported, and every worker process imports it; put what"
                ' it runs under `if __name__ == "__main__":`, or leave out workers.'
            )
        self._lost += 1
        if code >= 0 and not child.overdue:
            raise StudyError(
                f"Runtime: a worker process {child.fate()} before it was ready; what it printed says why. It imports"
                f" {script} and the modules of trainer and model."
            )
        if self._lost >= STARTS:
            raise StudyError(
                f"Runtime: {STARTS} worker processes in a row ended at their start; the last {child.fate()}."
            )


def _message(child: Child) -> Any:
    """What it has to tell; None when it is gone."""
    try:
        message = receive(child.pipe)
    except (EOFError, OSError):
        return None
    child.heard = time.monotonic()
    return message


def _close(children: list[Child], sent: Sent[Parcel]) -> None:
    end(children)
    children.clear()
    for parcel in sent.clear():
        parcel.close()
