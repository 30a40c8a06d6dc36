"""ActorProxy: the handle of a Ray actor, which is starting, idle or training."""

import re
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, TaskCancelledError
from typing_extensions import override

from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.ray.actor import RayActor
from tuneflow.execute.ray.pickling import pack
from tuneflow.execute.workers.assignment import Assignment, SharedObjects
from tuneflow.execute.workers.messages import ProcessSettings
from tuneflow.execute.workers.worker_proxy import WorkerProxy
from tuneflow.runtime.ray_runtime import RayRuntime

CALLS = 2  # calls that an actor has at a time: it trains the next epoch while the last reply is on its way

REMOTE = ray.remote(RayActor)


class ActorProxy(WorkerProxy):
    """An actor, requested by the constructor; it comes when the cluster has room for it.

    Args:
        runtime: the study's; the actor makes its own by `runtime.of_a_worker()`.
        number: the worker's.

    Attributes:
        calls: calls that it has not answered yet, the earliest first.
    """

    def __init__(self, runtime: RayRuntime, number: int) -> None:
        super().__init__(runtime.slots, number)
        self._called = 0  # number of calls in all
        self._since: dict[int, int] = {}  # by trial, the number of the call that began its slice
        resources = {"num_cpus": runtime.cpus, "num_gpus": runtime.gpus}
        self._handle: Any = REMOTE.options(**resources, max_restarts=0, max_task_retries=0).remote()
        self.calls = deque([self._handle.ready.remote(runtime.of_a_worker(), ProcessSettings.current(runtime.dtype))])

    @property
    def idle(self) -> bool:  # type: ignore[override]
        return self.ready and not self.calls

    def ask(self, shared: SharedObjects[Any], engines: EngineCache, workers: int) -> None:
        """Send it new work, and call for the epochs to come: one at least, and none beyond a slice."""
        if self.unsent or (self.stops and self.training):
            command = self.command(engines, workers)
            self._since |= {task.work.trial: self._called for task in command.tasks}
            self.begun = False
            self._call("take", pack(command), [shared[task.shared] for task in command.tasks if task.attached])
        while self.training and len(self.calls) < CALLS and len(self.calls) < max(1, self._left):
            self._call("train")

    @property
    def _left(self) -> int:
        """Epochs to the end of the slice, among those sent, that ends first."""
        pieces = [self.work[trial].piece for trial in self.training]
        return min(piece.until - piece.start for piece in pieces)

    def _call(self, method: str, *arguments: Any) -> None:
        if not self.calls:
            self.last_message = time.monotonic()
        self.calls.append(getattr(self._handle, method).remote(*arguments))
        self._called += 1

    def receive(self) -> Any:
        """Return its answer to the earliest call.

        Raises:
            RayError: it is gone.
        """
        answer = ray.get(self.calls.popleft())
        self.last_message = time.monotonic()
        return answer

    @override
    def accept(self, events: Sequence[Event]) -> tuple[list[Event], list[Assignment]]:
        """Record the events of a reply, without those of slices that were stopped.

        The calls of a stopped slice still run: an actor one of whose calls was canceled can hang.
        """
        answered = self._called - len(self.calls) - 1
        return super().accept([event for event in events if self._since[event.trial] <= answered])

    @override
    def kill(self, why: str = "") -> None:
        """End it at once; its calls end with an error."""
        self.overdue = why
        with suppress(RayError):
            ray.kill(self._handle)

    def exit_reason(self, error: Exception) -> str:
        """Description of its end, such as "exited with status 3"."""
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
