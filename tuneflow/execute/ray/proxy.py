"""A Ray actor as this process sees it: starting, idle, or training slices."""

import re
import time
from collections import deque
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, TaskCancelledError

from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.ray.actor import RayActor
from tuneflow.execute.ray.pickling import pack
from tuneflow.execute.workers.assignment import Assignment, SharedObjects
from tuneflow.execute.workers.messages import ProcessSettings, Reply
from tuneflow.execute.workers.worker_proxy import WorkerProxy
from tuneflow.runtime.ray_runtime import RayRuntime

AHEAD = 2  # calls that an actor has at a time: it trains the next epoch while the last is on its way

REMOTE = ray.remote(RayActor)


class ActorProxy(WorkerProxy):
    """A worker of the cluster, asked for when this is made. It comes when there is room for it.

    Attributes:
        calls: what it was asked and has not answered yet, the earliest first.
        ready: it has come so far once.
        heard: when it last said something, or was given something to do, by time.monotonic.
        overdue: why it was killed from here; empty when it was not.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        super().__init__(runtime.seats)
        self.ready, self.heard, self.overdue = False, time.monotonic(), ""
        self._asked = 0  # calls in all
        self._since: dict[int, int] = {}  # by trial, the call that began its slice
        resources = {"num_cpus": runtime.cpus, "num_gpus": runtime.gpus}
        self._handle: Any = REMOTE.options(**resources, max_restarts=0, max_task_retries=0).remote()
        self.calls = deque([self._handle.ready.remote(runtime.of_a_worker(), ProcessSettings.current())])

    @property
    def idle(self) -> bool:  # type: ignore[override]
        return self.ready and not self.calls

    @property
    def at_work(self) -> bool:
        """Whether it trains, or finishes the epoch of a slice that was stopped."""
        return self.ready and bool(self.calls)

    def ask(self, parcels: SharedObjects[Any], notes: EngineCache, workers: int) -> None:
        """Hand over what is new, and ask for the epochs to come: one at least, and not beyond a slice."""
        if self.unsent or (self.stops and self.training):
            orders = self.orders(notes, workers)
            self._since |= {task.work.trial: self._asked for task in orders.tasks}
            self._call(pack(orders), [parcels[task.parcel] for task in orders.tasks if task.follows])
        while self.training and len(self.calls) < AHEAD and len(self.calls) < max(1, self._left):
            self._call()

    @property
    def _left(self) -> int:
        """Epochs to the end of what it has been sent that ends first."""
        pieces = [self.work[trial].piece for trial in self.training]
        return min(piece.until - piece.start for piece in pieces)

    def _call(self, *given: Any) -> None:
        if not self.calls:
            self.heard = time.monotonic()
        self.calls.append(self._handle.train.remote(*given))
        self._asked += 1

    def hear(self) -> Any:
        """Its answer to the earliest call.

        Raises:
            RayError: it is gone.
        """
        answer = ray.get(self.calls.popleft())
        self.heard = time.monotonic()
        return answer

    def tell(self, told: Reply) -> tuple[list[Event], list[Assignment]]:
        """As `reached`, without what is of a slice that was stopped."""
        answered = self._asked - len(self.calls) - 1
        return self.reached([event for event in told.events if self._since[event.trial] <= answered])

    def stop(self, trial: int | None = None) -> None:
        """Drop a slice, or all. What it was asked it does: an actor out of which a call was canceled can hang."""
        for number in list(self.work) if trial is None else [trial]:
            self.drop(number)

    def kill(self, why: str = "") -> None:
        """End it, whatever it does; what it was asked is answered by an error."""
        self.overdue = why
        with suppress(RayError):
            ray.kill(self._handle)

    def fate(self, error: Exception) -> str:
        """How it ended, in words."""
        text = str(error)
        status = re.search(r"exit code (\d+)", text)
        if self.overdue:
            return self.overdue
        if status:
            return f"exited with status {status[1]}"
        if isinstance(error, TaskCancelledError):
            return "was interrupted"
        if isinstance(error, ActorUnavailableError) or "its node has died" in text:
            return "was lost with its node"
        return "was killed, or crashed (is there enough memory?)"
