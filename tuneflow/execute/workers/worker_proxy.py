"""Hands: workers of any kind, as those who give them slices see them; and how slices are spread over them."""

import logging
from collections import deque
from collections.abc import Sequence

from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.workers.assignment import DEATHS, Assignment
from tuneflow.execute.workers.messages import Command, EngineUpdate, Task

log = logging.getLogger("tuneflow")


class WorkerProxy:
    """A worker, as far as it has been given slices.

    Args:
        seats: how many slices it trains at once.

    Attributes:
        work: what it trains, or is to train, by trial; without what was stopped.
        training: the trials of `work` that it has been sent.
        stops: trials that it trains on until it hears that they were stopped.
        idle: it waits to be told what is next.
    """

    idle: bool

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.work: dict[int, Assignment] = {}
        self.training: set[int] = set()
        self.stops: list[int] = []
        self._parcels: set[int] = set()
        self._paces = 0  # how many it knows

    @property
    def full(self) -> bool:
        return len(self.work) >= self.seats or any(work.alone for work in self.work.values())

    @property
    def unsent(self) -> list[Assignment]:
        return [work for trial, work in self.work.items() if trial not in self.training]

    def takes(self, work: Assignment) -> bool:
        return not self.full and not (work.alone and self.work)

    def drop(self, trial: int) -> bool:
        """Take a slice from it; whether it has been sent that."""
        self.work.pop(trial, None)
        if trial not in self.training:
            return False
        self.training.discard(trial)
        self.stops.append(trial)
        return True

    def orders(self, notes: EngineCache, workers: int) -> Command:
        """All that it has not been told yet; from now on it has."""
        tasks = [self._task(work) for work in self.unsent]
        stops, self.stops = self.stops, []
        brief = notes.brief(self._paces, workers) if self.seats > 1 else EngineUpdate()
        self._paces += len(brief.paces)
        return Command(tasks, stops, brief)

    def _task(self, work: Assignment) -> Task:
        new = work.parcel not in self._parcels
        self._parcels.add(work.parcel)
        self.training.add(work.trial)
        return Task(work.parcel, new, work.piece, work.given, work.state, work.alone)

    def reached(self, events: Sequence[Event]) -> tuple[list[Event], list[Assignment]]:
        """Take in what it says: what is of slices that it is still to train, and those that it leaves unfinished."""
        told: list[Event] = []
        left = []
        for event in events:
            if event.trial not in self.training:
                continue
            work = self.work[event.trial]
            if isinstance(event, Reported):
                work.reached(event.state)
            else:
                del self.work[event.trial]
                self.training.discard(event.trial)
                if event.status == "DONE" and not work.over:
                    left.append(work)
                    continue
            told.append(event)
        return told, left

    def lost(self, fate: str, seconds: float, detail: str = "") -> tuple[list[Ended], list[Assignment]]:
        """It is gone, by this fate: which trials have ended with it, and which slices are to go on elsewhere.

        Nobody knows which of several trials it was. So each goes on in a worker of its own, until it is past the epoch
        in which it lost this one; the trial that loses that one too has failed, and no other.
        """
        lost = [self.work[trial] for trial in sorted(self.training)]
        for work in lost:
            work.deaths += 1
            work.alone = self.seats > 1
        ended = [_failed(work, fate, seconds, detail) for work in lost if work.deaths >= DEATHS]
        left = [work for work in self.work.values() if work.deaths < DEATHS]
        again = [work for work in left if work.trial in self.training]
        if len(again) == 1:
            where = f"in epoch {again[0].work.start + 1}"
            log.warning("trial %d: its worker process %s %s; another goes on", again[0].trial, fate, where)
        elif again:
            numbers = ", ".join(str(work.trial) for work in again)
            log.warning("trials %s: their worker process %s; each goes on in one of its own", numbers, fate)
        return ended, left


def spread(waiting: deque[Assignment], hands: Sequence[WorkerProxy], most: int) -> None:
    """Give the slices that wait to hands, evenly and at most `most` to each: all cores work before lanes are filled.

    Those that are to be trained alone come first, and take the hands that have nothing: so they are through, an epoch
    of each, before such a hand gets anything else.
    """
    for work in sorted(waiting, key=lambda work: not work.alone):
        able = [hand for hand in hands if hand.takes(work) and len(hand.work) < most]
        if able:
            hand = min(able, key=lambda hand: (len(hand.work), not hand.idle))
            hand.work[work.trial] = work
            waiting.remove(work)


def _failed(work: Assignment, fate: str, seconds: float, detail: str) -> Ended:
    reason = f"its worker process {fate} in epoch {work.work.start + 1}, as one before it ended in that epoch"
    return Ended(work.trial, "FAILED", reason, detail, seconds)
