"""The executor of `Runtime(workers=...)`: long-lived worker processes, each with one slice or several lanes."""

import math
import sys
import time
from collections import deque
from multiprocessing import connection, util
from typing import Any

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.processes.proxy import ProcessProxy, end_all, reap
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
    """Trains in worker processes, started when there is work for them, and kept until `close`.

    Each trains as the runtime does in one process: as the inline executor, with the same digits for the same number of
    threads, or in lanes. Trainer and model are sent to a process once, their data in memory that
    all of them share; the state after each epoch comes back with its report. A process goes on to the next epoch at
    once, unless it has room for another slice: what it trained beyond a stop is dropped.

    A process that dies loses its current epochs and nothing else: its slices go on from their last states reported,
    each in a process of its own where there were several. A trial that loses two processes in the same epoch has
    failed. One that hangs is noticed by `timeout` only.

    Args:
        runtime: the device, the lanes and threads of each process, and what `workers` and `timeout` are by default.
        workers: how many processes, at least 1.
        timeout: seconds after which a process that sent no epoch is taken to hang, and killed; None for never.

    Attributes:
        engines: the cache of the processes' measurements; a study puts its own here.
        timeout: as given; a change counts from the next wait on.
    """

    def __init__(self, runtime: Runtime, workers: int | None = None, timeout: float | None = None) -> None:
        self._runtime = runtime
        self._limit = (runtime.workers or 1) if workers is None else workers
        self.timeout = runtime.timeout if timeout is None else timeout
        self.engines = EngineCache()
        self._children: list[ProcessProxy] = []
        self._waiting: deque[Assignment] = deque()
        self._sent = SharedObjects(sendable.share)
        self._lost = 0  # processes killed in a row before they were ready
        # When nobody holds this any more, and at exit before multiprocessing waits for its children.
        util.Finalize(self, _close, (self._children, self._sent), exitpriority=10)

    @property
    def free(self) -> int:
        return self._limit * self._runtime.slots - self.busy

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(child.work) for child in self._children)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice; see Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: the script that runs cannot be imported by another process.
        """
        if not self.free:
            raise RuntimeError(f"all {self._limit} workers have {slices(self._runtime)} each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._waiting.append(Assignment(number, work, sendable.pickled_job(job), state))
        self._assign()

    def wait(self) -> list[Event]:
        """Wait for the events of one process.

        Raises:
            StudyError: no process can be started, or it cannot load what it was sent; the message has the reason.
        """
        while self.busy:
            self._dispatch()
            child = self._next_sender()
            events = self._receive(child) if child is not None else []
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

    # Assignment of slices.

    def _assign(self) -> None:
        """Assign waiting slices; a process that can take no more begins at once.

        New processes are started before one that is at work gets more, or one that still drops a slice.
        """
        able = sum(child.idle and not child.work for child in self._children)
        for _ in range(min(len(self._waiting) - able, self._limit - len(self._children))):
            self._children.append(ProcessProxy(self._runtime, len(self._children)))
        spread(self._waiting, self._children, self._runtime.slots)
        for child in self._children:
            if child.idle and child.full:
                self._begin(child)

    def _dispatch(self) -> None:
        """Start idle processes that have work, and halt those that are to get more; all decisions have been made."""
        for child in self._children:
            if child.idle and (child.work or child.stops):
                self._begin(child)
            elif child.ready and child.unsent:
                child.halt()

    def _begin(self, child: ProcessProxy) -> None:
        child.begin(self._sent, self.engines, self._limit)

    # Messages.

    def _next_sender(self) -> ProcessProxy | None:
        """Of the processes that sent a message, the one whose last one is oldest; None if one was overdue."""
        by_pipe: dict[Any, ProcessProxy] = {child.pipe: child for child in self._children}
        senders = [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), self._patience())]
        if not senders:
            self._kill_overdue()
        return min(senders, key=lambda child: child.last_message, default=None)

    def _patience(self) -> float | None:
        """Seconds until a process is overdue; None for no limit."""
        if self.timeout is None:
            return None
        last_message = min((child.last_message for child in self._children if child.at_work), default=math.inf)
        return max(0.0, last_message + self.timeout - time.monotonic()) if math.isfinite(last_message) else None

    def _kill_overdue(self) -> None:
        for child in self._children:
            if self.timeout is not None and child.at_work and time.monotonic() >= child.last_message + self.timeout:
                child.kill(f"sent nothing for {self.timeout:g} seconds")

    def _receive(self, child: ProcessProxy) -> list[Event]:
        message = _message(child)
        if message is None:
            return self._drop_lost(child)
        events: list[Event] = []
        if isinstance(message, Reply):
            self.engines.merge(message.engines)
            events, left = child.accept(message.events)
            self._waiting.extend(left)
        if not isinstance(message, Reply) or message.waits:
            self._lost = 0
            child.mark_idle()
        if isinstance(message, LoadFailure) and child.training:  # else it is of a slice that was stopped
            raise message.error()
        self._assign()
        return events

    def _drop_lost(self, child: ProcessProxy) -> list[Event]:
        """Remove a process that is gone; its slices go on elsewhere, or have failed."""
        reap(child)
        self._children.remove(child)
        if not child.ready:
            self._check_start(child)
        ended, left = child.lost(child.exit_reason(), time.monotonic() - child.last_message)
        self._waiting.extendleft(reversed(left))
        self._assign()
        return list(ended)

    def _check_start(self, child: ProcessProxy) -> None:
        """Raise StudyError if starting another process cannot help."""
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
                f"Runtime: a worker process {child.exit_reason()} before it was ready; its output has the reason. It"
                f" imports {script} and the modules of trainer and model."
            )
        if self._lost >= STARTS:
            raise StudyError(
                f"Runtime: {STARTS} worker processes in a row ended at their start; the last {child.exit_reason()}."
            )


def _message(child: ProcessProxy) -> Any:
    """Receive its message; None if it is gone."""
    try:
        message = receive(child.pipe)
    except (EOFError, OSError):
        return None
    child.last_message = time.monotonic()
    return message


def _close(children: list[ProcessProxy], sent: SharedObjects[SharedObject]) -> None:
    end_all(children)
    children.clear()
    for shared in sent.clear():
        shared.close()
