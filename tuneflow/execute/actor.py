"""A Ray actor as this process sees it: starting, idle, training a slice, or leaving one that was stopped."""

import re
import time
from collections import deque
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, TaskCancelledError

from tuneflow.execute.assignment import Assignment
from tuneflow.execute.bench import Settings, Task
from tuneflow.execute.cloud import Packed, pack
from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.seat import Seat
from tuneflow.rayruntime import RayRuntime

AHEAD = 2  # calls that an actor has at a time: it trains the next epoch while the last is on its way

REMOTE = ray.remote(Seat)


class Actor:
    """A worker of the cluster, asked for when this is made. It comes when there is room for it.

    Attributes:
        work: what it trains; None for nothing, and for a slice that was stopped.
        calls: what it was asked and has not answered yet, the earliest first.
        ready: it has come so far once.
        heard: when it last said something, or was given something to do, by time.monotonic.
        overdue: why it was killed from here; empty when it was not.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self.work: Assignment | None = None
        self.ready, self.heard, self.overdue = False, time.monotonic(), ""
        self._has: set[int] = set()
        resources = {"num_cpus": runtime.cpus, "num_gpus": runtime.gpus}
        self._handle: Any = REMOTE.options(**resources, max_restarts=0, max_task_retries=0).remote()
        self.calls = deque([self._handle.ready.remote(runtime.of_a_worker(), Settings.current())])

    @property
    def idle(self) -> bool:
        return self.ready and not self.calls

    @property
    def at_work(self) -> bool:
        """Whether it trains, or finishes the epoch of a slice that was stopped."""
        return self.ready and bool(self.calls)

    def begin(self, work: Assignment, parcel: Any) -> None:
        """Give it a slice, with the reference to its trainer and model where it has not got them yet."""
        self.work, self.heard = work, time.monotonic()
        new = work.parcel not in self._has
        self._has.add(work.parcel)
        task = Task(work.parcel, new, work.work, work.given, work.state)
        self.calls.append(self._handle.begin.remote(pack(task), [parcel] if new else []))

    def hear(self) -> Any:
        """Its answer to the earliest call.

        Raises:
            RayError: it is gone.
        """
        answer = ray.get(self.calls.popleft())
        self.heard = time.monotonic()
        return answer

    def tell(self, packed: Packed) -> list[Event]:
        """What happened, by its answer; nothing where that is of a slice that was stopped."""
        if self.work is None:
            return []
        events: list[Event] = packed.value()
        for event in events:
            if isinstance(event, Reported):
                self.work.reached(event.state)
        if events and isinstance(events[-1], Ended):
            self.work = None
        return events

    def ask(self) -> None:
        """Ask for the epochs to come: one at least, and not beyond the slice."""
        work = self.work
        while work is not None and len(self.calls) < AHEAD:
            if self.calls and work.work.start + len(self.calls) >= work.work.until:
                break
            self.calls.append(self._handle.epoch.remote())

    def stop(self) -> None:
        """Drop its work. It does what it was asked before: an actor out of which a call was cancelled can hang."""
        self.work = None

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
