"""Group: trials of one structure, and the stacks that they are trained in."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.benchmark import is_out_of_memory, measure, time_alone
from tuneflow.execute.lanes.engine_cache import EngineCache, EngineTiming
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.lane_stack import LaneStack
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse

CHUNK = 16  # seats of a stack at most: more no longer fit into the caches
TRACING = 0.7  # seconds that a program takes to trace, until one was measured
# What share of the time a program may save, by the seconds of a step alone, before it was measured.
HOPES = ((0.001, 0.7), (0.003, 0.4), (0.01, 0.1), (math.inf, 0.03))
TRIED = 20  # steps of every seat that a measurement takes


class StructureGroup:
    """Trials of one structure.

    They are trained as one program where that pays: as measured on themselves, once what is left to train is worth the
    measurement. Where it does not they are given back, to be trained alone.

    Args:
        name: of the structure, the same in every process.
        alone: takes lanes that are to be trained alone.
        more: how many trials are to come for each that is under way.
        programs: what was traced of the structure so far.
    """

    def __init__(
        self,
        name: str,
        notes: EngineCache,
        alone: Callable[[Lane], None],
        more: Callable[[], float],
        programs: ProgramCache,
    ) -> None:
        self._name, self._notes, self._programs = name, notes, programs
        self._alone, self._more = alone, more
        self._waiting: list[Lane] = []
        self._stacks: deque[LaneStack] = deque()
        self._pace: EngineTiming | None = None
        self._step: float | None = None  # seconds of a step alone
        self._spent = 0.0  # seconds of training alone, for want of a program
        self._chunk = CHUNK
        self._traced: set[int] = set()  # seats that there is a program for

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(stack.lanes) for stack in self._stacks)

    def add(self, lane: Lane) -> None:
        self._waiting.append(lane)

    def stop(self, trial: int) -> None:
        """Drop a trial, where it is here."""
        self._waiting = [lane for lane in self._waiting if lane.work.trial != trial]
        for stack in self._stacks:
            stack.stop(trial)

    def wait(self) -> list[Event]:
        """Train until something has happened; nothing where all were given back."""
        self._seat()
        if not self._stacks:
            return []
        stack = self._stacks.popleft()
        try:
            events = stack.advance()
        except Exception as error:
            self._fall(stack.lanes, error)
            return []
        if stack.lanes:
            self._stacks.append(stack)
        return events

    # Who sits where.

    def _seat(self) -> None:
        """Give those that wait a seat, or give them back; join stacks that have become empty by half."""
        self._stacks = deque(stack for stack in self._stacks if stack.lanes)
        for stack in self._stacks:
            while self._waiting and stack.free and self._put(stack):
                pass
        while self._waiting:
            lanes = self._waiting[: self._chunk]
            try:
                pace = self._learn(lanes)
                if pace is None or pace.kind == "alone":
                    self._give_back(lanes)
                else:
                    self._build(lanes, pace)
                self._waiting = self._waiting[len(lanes) :]
            except Exception as error:
                self._waiting = self._waiting[len(lanes) :]
                self._fall(lanes, error)
        self._thin()
        self._join()

    def _put(self, stack: LaneStack) -> bool:
        try:
            stack.put(self._waiting[0])
        except CannotFuse:
            return False  # it does not go with these; perhaps with others
        self._waiting.pop(0)
        return True

    def _build(self, lanes: Sequence[Lane], pace: EngineTiming) -> None:
        seats = _bucket(len(lanes))
        self._stacks.append(LaneStack(lanes, seats, pace.kind, self._programs))
        self._traced.add(seats)

    def _thin(self) -> None:
        """Train the last few of a stack alone, where that is less work than its empty seats."""
        pace = self._pace
        if pace is None:
            return
        for stack in list(self._stacks):
            lanes = stack.lanes
            fewer = len(lanes) * pace.alone < pace.of(len(stack.seats))
            if fewer and all(lane.step == 0 for lane in lanes):
                self._stacks.remove(stack)
                self._give_back(lanes)

    def _join(self) -> None:
        """Put all lanes into fewer seats, where what that saves is worth another program."""
        pace, lanes = self._pace, [lane for stack in self._stacks for lane in stack.lanes]
        if pace is None or not lanes:
            return
        sizes = [_bucket(len(lanes[start : start + self._chunk])) for start in range(0, len(lanes), self._chunk)]
        before, after = sum(len(stack.seats) for stack in self._stacks), sum(sizes)
        saved = sum(pace.of(len(stack.seats)) for stack in self._stacks) - sum(map(pace.of, sizes))
        cost = (pace.tracing or TRACING) * len(set(sizes) - self._traced)
        if after > before // 2 or saved * max(lane.steps_left for lane in lanes) <= cost:
            return
        for stack in self._stacks:
            stack.unload()
        self._stacks.clear()
        for start in range(0, len(lanes), self._chunk):
            self._build(lanes[start : start + self._chunk], pace)

    # How they are trained.

    def _learn(self, lanes: Sequence[Lane]) -> EngineTiming | None:
        """The pace of this structure; None while it is not worth being measured."""
        seats = _bucket(len(lanes))
        known = self._pace
        if known is not None and (known.kind != "alone" or known.reason or seats < 4 * known.seats):
            return known
        self._pace = self._notes.recall(self._name, seats)
        if self._pace is None and self._is_worth_measuring(lanes):
            found = measure(lanes, seats, self._programs, self._step or time_alone(lanes[0]))
            self._pace = self._notes.remember(self._name, found)
            if self._pace.kind != "alone":
                gain = self._pace.gain * len(lanes) / seats
                self._notes.say(f"fused: {len(lanes)} trials as one, {gain:.1f} times as fast as one by one")
            elif self._pace.reason:
                self._notes.say(f"not fused: {self._pace.reason}")
        return self._pace

    def _is_worth_measuring(self, lanes: Sequence[Lane]) -> bool:
        if self._step is None:
            self._step = time_alone(lanes[0])
        hope = next(share for most, share in HOPES if self._step < most)
        cost = TRACING + TRIED * self._step * _bucket(len(lanes))
        steps = sum(lane.steps_left for lane in self._waiting)
        left = self._step * steps * (1 + self._more())
        return hope * (left + self._spent) > cost

    def _give_back(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            self._spent += (self._step or 0.0) * lane.steps_left
            self._alone(lane)

    def _fall(self, lanes: Sequence[Lane], error: Exception) -> None:
        """Something went wrong with a stack: these go on from what they last reported, by the next engine."""
        self._waiting += [lane.again() for lane in lanes]
        pace = self._pace
        if is_out_of_memory(error) and self._chunk > 1 and len(lanes) > 1:
            self._chunk = _bucket(len(lanes)) // 2
            self._notes.say(f"out of memory with {len(lanes)} trials as one: goes on with {self._chunk}")
            return
        reason = str(error) if isinstance(error, CannotFuse) else f"{type(error).__name__}: {error}"
        self._notes.say(f"not fused: {reason}")
        step = self._step or 0.0
        if pace is not None and pace.kind == "stacked" and not is_out_of_memory(error):
            self._pace = replace(pace, kind="single", together=pace.alone * pace.seats, reason=reason)
        else:
            self._pace = EngineTiming("alone", self._chunk, step if pace is None else pace.alone, reason=reason)


def _bucket(count: int) -> int:
    """Seats for so many lanes: the next power of two, so that few programs do for any number."""
    return 1 << (count - 1).bit_length()
