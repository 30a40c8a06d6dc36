"""WorkerProxy: the parent's record of a worker; and how slices are spread over several."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.workers.assignment import DEATHS, Assignment
from tuneflow.execute.workers.messages import Command, EngineUpdate, Task

log = logging.getLogger("tuneflow")


class WorkerProxy:
    """The slices that a worker has been given, and what it has been sent of them.

    Args:
        slots: the number of slices that it trains at once.
        number: tells it from the others that there are at the same time, counted from 0.

    Attributes:
        work: its assignments by trial, sent or not; without those that were stopped.
        training: the trials of `work` that were sent.
        stops: trials to be named as stopped by the next command; the worker trains them until then.
        idle: it waits for a command.
        ready: it has been idle once.
        last_message: when its last message came, or it was sent a command while idle, by time.monotonic.
        begun: an epoch has begun since its last command; until then it imports, loads and builds.
        overdue: why it was killed by its parent; empty if it was not.
    """

    idle: bool

    def __init__(self, slots: int, number: int = 0) -> None:
        self.slots, self.number = slots, number
        self.ready, self.last_message, self.overdue = False, time.monotonic(), ""
        self.begun = True
        self.work: dict[int, Assignment] = {}
        self.training: set[int] = set()
        self.stops: list[int] = []
        self._shared: set[int] = set()  # numbers of the shared objects that it has
        self._timings = 0  # number of timings that it has

    @property
    def full(self) -> bool:
        return len(self.work) >= self.slots or any(work.alone for work in self.work.values())

    @property
    def unsent(self) -> list[Assignment]:
        return [work for trial, work in self.work.items() if trial not in self.training]

    def takes(self, work: Assignment) -> bool:
        return not self.full and not (work.alone and self.work)

    @property
    def at_work(self) -> bool:
        """True while it trains, or finishes the epoch of a slice that was stopped."""
        return self.ready and not self.idle

    def stop(self, trial: int | None = None) -> None:
        """Drop a slice, or all; the next command names those that were sent."""
        for number in list(self.work) if trial is None else [trial]:
            self.work.pop(number, None)
            if number in self.training:
                self.training.discard(number)
                self.stops.append(number)

    def kill(self, why: str) -> None:
        """End it at once, for a reason to be reported."""

    def command(self, engines: EngineCache, workers: int) -> Command:
        """Return the command with everything not sent yet, and count it as sent."""
        tasks = [self._task(work) for work in self.unsent]
        stops, self.stops = self.stops, []
        update = engines.update_for(self._timings, workers) if self.slots > 1 else EngineUpdate()
        self._timings += len(update.timings)
        return Command(tasks, stops, update)

    def _task(self, work: Assignment) -> Task:
        new = work.shared not in self._shared
        self._shared.add(work.shared)
        self.training.add(work.trial)
        return Task(work.shared, new, work.piece, work.job, work.state, work.alone)

    def accept(self, events: Sequence[Event]) -> tuple[list[Event], list[Assignment]]:
        """Record the events of a reply; return those of current slices, and the assignments left unfinished."""
        current: list[Event] = []
        unfinished = []
        for event in events:
            if event.trial not in self.training:
                continue
            work = self.work[event.trial]
            if isinstance(event, Reported):
                work.advance(event.state)
                event = replace(event, report=replace(event.report, worker=self.number))
            else:
                del self.work[event.trial]
                self.training.discard(event.trial)
                if event.status == "DONE" and not work.over:
                    unfinished.append(work)
                    continue
            current.append(event)
        return current, unfinished

    def lost(self, exit_reason: str, seconds: float, detail: str = "") -> tuple[list[Ended], list[Assignment]]:
        """Record the worker's death; return the trials that failed by it, and the assignments to go on elsewhere.

        Which of several trials caused it is unknown. So each goes on in a worker of its own, until it is past the epoch
        in which it lost this one; a trial that loses that worker too has failed, and no other.

        Args:
            exit_reason: how the worker ended, such as "exited with status 3".
            seconds: wall-clock time since its last message.
            detail: the error's text; may be empty.
        """
        sent = [self.work[trial] for trial in sorted(self.training)]
        for work in sent:
            work.deaths += 1
            work.alone = self.slots > 1
        failed = [_failed(work, exit_reason, seconds, detail) for work in sent if work.deaths >= DEATHS]
        left = [work for work in self.work.values() if work.deaths < DEATHS]
        again = [work for work in left if work.trial in self.training]
        if len(again) == 1:
            epoch = again[0].work.start + 1
            log.warning(
                "trial %d: worker process %s in epoch %d; continues in another", again[0].trial, exit_reason, epoch
            )
        elif again:
            numbers = ", ".join(str(work.trial) for work in again)
            log.warning("trials %s: worker process %s; each continues in one of its own", numbers, exit_reason)
        return failed, left


def spread(waiting: deque[Assignment], proxies: Sequence[WorkerProxy], limit: int) -> None:
    """Assign waiting slices evenly, at most `limit` to a worker: all cores work before lanes are filled.

    Those to be trained alone come first, and take workers that have nothing: so they are through, an epoch of each,
    before such a worker gets anything else.

    Args:
        waiting: slices without a worker; those that are assigned are removed.
        proxies: the workers.
        limit: the largest number of slices for one worker.
    """
    for work in sorted(waiting, key=lambda work: not work.alone):
        able = [proxy for proxy in proxies if proxy.takes(work) and len(proxy.work) < limit]
        if able:
            proxy = min(able, key=lambda proxy: (len(proxy.work), not proxy.idle))
            proxy.work[work.trial] = work
            waiting.remove(work)


def _failed(work: Assignment, exit_reason: str, seconds: float, detail: str) -> Ended:
    reason = f"two worker processes died in epoch {work.work.start + 1}; the last {exit_reason}"
    return Ended(work.trial, "FAILED", reason, detail, seconds)
