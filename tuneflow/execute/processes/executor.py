"""The executor of `Runtime(workers=...)`: long-lived worker processes, each with a slice, or with as many as lanes."""

import math
import sys
import time
from collections import deque
from multiprocessing import connection, util
from typing import Any

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.processes.proxy import ProcessProxy, bury, end
from tuneflow.execute.processes.worker_process import UNGUARDED
from tuneflow.execute.workers import sendable
from tuneflow.execute.workers.assignment import STARTS, Assignment, SharedObjects, slices
from tuneflow.execute.workers.messages import LoadFailure, Reply
from tuneflow.execute.workers.pickling import SharedObject, receive
from tuneflow.execute.workers.worker_proxy import spread
from tuneflow.history.trial import Slice
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


class ProcessExecutor:
    """Trains in processes of its own. They are started when there is work for them, and live until `close`.

    Each trains as the runtime does in one process: as the inline executor, with the same digits for the same number of
    threads, or in lanes. Trainer and model are sent to a process once, their data in memory that
    all of them share; the state after each epoch comes back with its report. A process goes on to the next epoch at
    once, unless it has room for another slice: what it trained beyond a stop is dropped.

    A process that dies takes its own epochs along and nothing else: its slices go on from their last states reported,
    each in a process of its own where there were several. A trial that loses two processes in the same epoch has
    failed. One that hangs is noticed by `timeout` only.

    Args:
        runtime: the device, the lanes and threads of each process, and what `workers` and `timeout` are by default.
        workers: how many processes, at least 1.
        timeout: seconds after which a process that sent no epoch is taken to hang, and killed; None for never.

    Attributes:
        notes: where it is kept what the processes measured; a study gives its own.
        timeout: as given; a change counts from the next wait on.
    """

    def __init__(self, runtime: Runtime, workers: int | None = None, timeout: float | None = None) -> None:
        self._runtime = runtime
        self._most = (runtime.workers or 1) if workers is None else workers
        self.timeout = runtime.timeout if timeout is None else timeout
        self.notes = EngineCache()
        self._children: list[ProcessProxy] = []
        self._waiting: deque[Assignment] = deque()
        self._sent = SharedObjects(sendable.parcel)
        self._lost = 0  # processes killed in a row before they were ready
        # When nobody holds this any more, and at exit before multiprocessing waits for its children.
        util.Finalize(self, _close, (self._children, self._sent), exitpriority=10)

    @property
    def free(self) -> int:
        return self._most * self._runtime.seats - self.busy

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(child.work) for child in self._children)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """As Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: the script that runs cannot be imported by another process.
        """
        if not self.free:
            raise RuntimeError(f"all {self._most} workers have {slices(self._runtime)} each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._waiting.append(Assignment(number, work, sendable.packed(job), state))
        self._staff()

    def wait(self) -> list[Event]:
        """As Executor.wait: what one process has to tell.

        Raises:
            StudyError: no process can be started, or it cannot load what it was sent; the message says why.
        """
        while self.busy:
            self._go_on()
            child = self._speaker()
            events = self._hear(child) if child is not None else []
            if events:
                return events
        return []

    def stop(self, trial: int) -> None:
        for work in [work for work in self._waiting if work.trial == trial]:
            self._waiting.remove(work)
        for child in self._children:
            child.stop(trial)

    def close(self) -> None:
        """Drop every slice and end the processes: those that are idle leave, those at work are killed."""
        self._waiting.clear()
        _close(self._children, self._sent)

    # Who trains what.

    def _staff(self) -> None:
        """Give out what waits; a process that can take no more has no reason to wait.

        New processes are started before one that is at work gets more, or one that still leaves a slice.
        """
        able = sum(child.idle and not child.work for child in self._children)
        for _ in range(min(len(self._waiting) - able, self._most - len(self._children))):
            self._children.append(ProcessProxy(self._runtime, len(self._children)))
        spread(self._waiting, self._children, self._runtime.seats)
        for child in self._children:
            if child.idle and child.full:
                self._begin(child)

    def _go_on(self) -> None:
        """All has been decided that is to be for now: nobody waits for more, and who is to get more is halted."""
        for child in self._children:
            if child.idle and (child.work or child.stops):
                self._begin(child)
            elif child.ready and child.unsent:
                child.halt()

    def _begin(self, child: ProcessProxy) -> None:
        child.begin(self._sent, self.notes, self._most)

    # What the processes say.

    def _speaker(self) -> ProcessProxy | None:
        """Of those that have something to say, the one heard longest ago; None when one was overdue."""
        by_pipe: dict[Any, ProcessProxy] = {child.pipe: child for child in self._children}
        speaking = [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), self._patience())]
        if not speaking:
            self._kill_overdue()
        return min(speaking, key=lambda child: child.heard, default=None)

    def _patience(self) -> float | None:
        """Seconds until a process is overdue."""
        if self.timeout is None:
            return None
        heard = min((child.heard for child in self._children if child.at_work), default=math.inf)
        return max(0.0, heard + self.timeout - time.monotonic()) if math.isfinite(heard) else None

    def _kill_overdue(self) -> None:
        for child in self._children:
            if self.timeout is not None and child.at_work and time.monotonic() >= child.heard + self.timeout:
                child.kill(f"sent nothing for {self.timeout:g} seconds")

    def _hear(self, child: ProcessProxy) -> list[Event]:
        message = _message(child)
        if message is None:
            return self._lose(child)
        events: list[Event] = []
        if isinstance(message, Reply):
            self.notes.hear(message.news)
            events, left = child.reached(message.events)
            self._waiting.extend(left)
        if not isinstance(message, Reply) or message.waits:
            self._lost = 0
            child.rest()
        if isinstance(message, LoadFailure) and child.training:  # else it is of a slice that was stopped
            raise message.error()
        self._staff()
        return events

    def _lose(self, child: ProcessProxy) -> list[Event]:
        """A process is gone: what it trained goes on elsewhere, or has failed."""
        bury(child)
        self._children.remove(child)
        if not child.ready:
            self._check_start(child)
        ended, left = child.lost(child.fate(), time.monotonic() - child.heard)
        self._waiting.extendleft(reversed(left))
        self._staff()
        return list(ended)

    def _check_start(self, child: ProcessProxy) -> None:
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


def _message(child: ProcessProxy) -> Any:
    """What it has to tell; None when it is gone."""
    try:
        message = receive(child.pipe)
    except (EOFError, OSError):
        return None
    child.heard = time.monotonic()
    return message


def _close(children: list[ProcessProxy], sent: SharedObjects[SharedObject]) -> None:
    end(children)
    children.clear()
    for parcel in sent.clear():
        parcel.close()
