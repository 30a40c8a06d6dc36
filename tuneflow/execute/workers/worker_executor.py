"""WorkerExecutor: the part of an executor that is the same for local worker processes and Ray actors."""

import math
import time
from collections import deque
from itertools import count
from typing import Any, Generic, TypeVar

from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.workers.assignment import Assignment, SharedObjects
from tuneflow.execute.workers.messages import Reply
from tuneflow.execute.workers.sendable import Transport
from tuneflow.execute.workers.worker_proxy import WorkerProxy
from tuneflow.history.trial import Slice
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

UNTIL_BEGUN = 10  # times the timeout that a worker may take for all that comes before its first epoch

W = TypeVar("W", bound=WorkerProxy)


class WorkerExecutor(Generic[W]):
    """Slices that wait, the workers that train the others, and the objects that these were sent.

    Args:
        runtime: the study's.
        sent: packs trainers and models.
        way: how configurations are sent.

    Attributes:
        engines: the cache of the workers' measurements; a study puts its own here.
        timeout: the runtime's; a change counts from the next wait on.
    """

    def __init__(self, runtime: Runtime, sent: SharedObjects[Any], way: Transport) -> None:
        self._runtime, self._sent, self._way = runtime, sent, way
        self.timeout = runtime.timeout
        self.engines = EngineCache()
        self._workers: list[W] = []
        self._waiting: deque[Assignment] = deque()
        self._lost = 0  # workers lost in a row before they were ready

    @property
    def free(self) -> int:
        return max(0, self._room() * self._runtime.slots - self.busy)

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(worker.work) for worker in self._workers)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice; see Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: there is no cluster, or no node of it has what a worker needs.
        """
        if not self.free:
            each = f"{self._runtime.slots} slices" if self._runtime.slots > 1 else "a slice"
            raise RuntimeError(f"all {self._room()} workers have {each} each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._waiting.append(Assignment(number, work, self._way.pickled_job(job), state))
        self._assign()

    def stop(self, trial: int) -> None:
        for work in [work for work in self._waiting if work.trial == trial]:
            self._waiting.remove(work)
        for worker in self._workers:
            worker.stop(trial)

    def _free_number(self) -> int:
        """Return the lowest number that no worker has."""
        taken = {worker.number for worker in self._workers}
        return next(number for number in count() if number not in taken)

    def _room(self) -> int:
        """The number of workers that there may be."""
        raise NotImplementedError

    def _assign(self) -> None:
        """Assign waiting slices; start more workers where there is room for them."""
        raise NotImplementedError

    def _patience(self) -> float | None:
        """Seconds until a worker is overdue; None for no limit."""
        if self.timeout is None:
            return None
        deadlines = [worker.last_message + self._limit(worker) for worker in self._workers if worker.at_work]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _limit(self, worker: W) -> float:
        """Seconds without a message after which a worker is overdue."""
        return (self.timeout or math.inf) * (1 if worker.begun else UNTIL_BEGUN)

    def _kill_overdue(self) -> None:
        for worker in self._workers:
            limit = self._limit(worker)
            if worker.at_work and time.monotonic() >= worker.last_message + limit:
                before = "" if worker.begun else ", and has not begun an epoch"
                worker.kill(f"sent nothing for {limit:g} seconds{before}")

    def _accept(self, worker: W, reply: Reply) -> list[Event]:
        self.engines.merge(reply.engines)
        events, left = worker.accept(reply.events)
        self._waiting.extend(left)
        return events

    def _fail_over(self, worker: W, exit_reason: str, detail: str = "") -> list[Event]:
        """Have the slices of a worker that is gone go on in others; return the trials that have failed by it."""
        ended, left = worker.lost(exit_reason, time.monotonic() - worker.last_message, detail)
        self._waiting.extendleft(reversed(left))
        return list(ended)
