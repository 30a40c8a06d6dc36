"""StructureGroup: the trials of one structure, and the stacks that they are trained in."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from tuneflow.errors import in_one_line
from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.benchmark import measure, time_alone
from tuneflow.execute.lanes.engine_cache import ONE_BY_ONE, EngineCache, EngineTiming
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.lane_stack import LaneStack
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.runtime.retries import is_out_of_memory

CHUNK = 16  # lanes of a stack at most: more no longer fit into the caches
TRACING = 0.7  # seconds that a program takes to trace, until one was measured
# (seconds of a step alone, share of the time that a program may save), for use before it is measured.
EXPECTED_SAVINGS = ((0.001, 0.7), (0.003, 0.4), (0.01, 0.1), (math.inf, 0.03))
TRIED = 20  # steps of every lane that a measurement takes


class StructureGroup:
    """The trials of one structure, trained as one program where that pays.

    Whether it pays is measured on themselves, once the training left is worth the measurement. Where it does not, they
    are handed to `alone`.

    Args:
        name: the structure's, the same in every process.
        engines: the cache of measurements.
        alone: called with each lane that is to be trained alone.
        more: returns how many trials are to come for each that is under way.
        programs: the structure's traced programs so far.
    """

    def __init__(
        self,
        name: str,
        engines: EngineCache,
        alone: Callable[[Lane], None],
        more: Callable[[], float],
        programs: ProgramCache,
    ) -> None:
        self._name, self._engines, self._programs = name, engines, programs
        self._alone, self._more = alone, more
        self._waiting: list[Lane] = []
        self._stacks: deque[LaneStack] = deque()
        self._timing: EngineTiming | None = None
        self._step: float | None = None  # seconds of a step alone
        self._spent = 0.0  # seconds of training alone, for want of a program
        self._chunk = CHUNK
        self._traced: set[int] = set()  # sizes of stack that there is a program for

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(stack.lanes) for stack in self._stacks)

    def add(self, lane: Lane) -> None:
        self._waiting.append(lane)

    def stop(self, trial: int) -> None:
        """Drop a trial, if it is in this group."""
        self._waiting = [lane for lane in self._waiting if lane.work.trial != trial]
        for stack in self._stacks:
            stack.stop(trial)

    def wait(self) -> list[Event]:
        """Train until there are events; return none where all lanes are trained alone."""
        self._fill_slots()
        if not self._stacks:
            return []
        stack = self._stacks.popleft()
        stack.lanes[0].job.runtime.begin_epoch()
        try:
            events = stack.advance()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fall_back(stack.lanes, error)
            return []
        if stack.lanes:
            self._stacks.append(stack)
        return events

    # Lanes and their stacks.

    def _fill_slots(self) -> None:
        """Put waiting lanes into stacks, or have them trained alone; merge stacks that are half empty."""
        self._stacks = deque(stack for stack in self._stacks if stack.lanes)
        for stack in self._stacks:
            while self._waiting and stack.free and self._put(stack):
                pass
        while self._waiting:
            lanes = self._waiting[: self._chunk]
            try:
                timing = self._choose_engine(lanes)
                if timing is None or timing.kind == "alone":
                    self._train_alone(lanes)
                else:
                    self._build(lanes, timing)
                self._waiting = self._waiting[len(lanes) :]
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._waiting = self._waiting[len(lanes) :]
                self._fall_back(lanes, error)
        self._release_few()
        self._merge()

    def _put(self, stack: LaneStack) -> bool:
        try:
            stack.put(self._waiting[0])
        except CannotFuse:
            return False  # it differs from these in a frozen parameter; it may fit others
        self._waiting.pop(0)
        return True

    def _build(self, lanes: Sequence[Lane], timing: EngineTiming) -> None:
        slots = _bucket(len(lanes))
        self._stacks.append(LaneStack(lanes, slots, timing.kind, self._programs))
        self._traced.add(slots)

    def _release_few(self) -> None:
        """Have the last few lanes of a stack trained alone, where that is less work than its empty slots."""
        timing = self._timing
        if timing is None:
            return
        for stack in list(self._stacks):
            lanes = stack.lanes
            fewer = len(lanes) * timing.alone < timing.of(len(stack.slots))
            if fewer and all(lane.step == 0 for lane in lanes):
                self._stacks.remove(stack)
                self._train_alone(lanes)

    def _merge(self) -> None:
        """Move all lanes to fewer slots, where that saves more than tracing another program costs."""
        timing, lanes = self._timing, [lane for stack in self._stacks for lane in stack.lanes]
        if timing is None or not lanes:
            return
        sizes = [_bucket(len(lanes[start : start + self._chunk])) for start in range(0, len(lanes), self._chunk)]
        before, after = sum(len(stack.slots) for stack in self._stacks), sum(sizes)
        saved = sum(timing.of(len(stack.slots)) for stack in self._stacks) - sum(map(timing.of, sizes))
        cost = (timing.tracing or TRACING) * len(set(sizes) - self._traced)
        if after > before // 2 or saved * max(lane.steps_left for lane in lanes) <= cost:
            return
        for stack in self._stacks:
            stack.unload()
        self._stacks.clear()
        for start in range(0, len(lanes), self._chunk):
            self._build(lanes[start : start + self._chunk], timing)

    # The choice of the engine.

    def _choose_engine(self, lanes: Sequence[Lane]) -> EngineTiming | None:
        """Return the engine for this structure; None while a measurement is not worth its cost."""
        slots = _bucket(len(lanes))
        known = self._timing
        if known is not None and (known.kind != "alone" or known.reason or slots < 4 * known.slots):
            return known
        self._timing = self._engines.recall(self._name, slots)
        if self._timing is None and self._is_worth_measuring(lanes):
            found = measure(lanes, slots, self._programs, self._step or time_alone(lanes[0]))
            self._timing = self._engines.remember(self._name, found)
            if self._timing.kind != "alone":
                gain = self._timing.gain * len(lanes) / slots
                self._engines.announce(f"lanes: training {len(lanes)} trials together, {gain:.1f}x faster")
            elif self._timing.reason:
                self._engines.announce(ONE_BY_ONE + self._timing.reason)
        return self._timing

    def _is_worth_measuring(self, lanes: Sequence[Lane]) -> bool:
        if self._step is None:
            self._step = time_alone(lanes[0])
        saved = next(share for limit, share in EXPECTED_SAVINGS if self._step < limit)
        cost = TRACING + TRIED * self._step * _bucket(len(lanes))
        steps = sum(lane.steps_left for lane in self._waiting)
        left = self._step * steps * (1 + self._more())
        return saved * (left + self._spent) > cost

    def _train_alone(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            self._spent += (self._step or 0.0) * lane.steps_left
            self._alone(lane)

    def _fall_back(self, lanes: Sequence[Lane], error: BaseException) -> None:
        """Restart lanes of a failed stack from their last reports, with the next slower engine."""
        for lane in lanes:
            self._start_again(lane)
        timing = self._timing
        if is_out_of_memory(error) and self._chunk > 1 and len(lanes) > 1:
            self._chunk = _bucket(len(lanes)) // 2
            self._engines.announce(
                f"lanes: out of memory with {len(lanes)} trials together; going on with {self._chunk}"
            )
            return
        reason = str(error) if isinstance(error, CannotFuse) else in_one_line(error)
        self._engines.announce(ONE_BY_ONE + reason)
        if timing is not None and timing.kind == "stacked" and not is_out_of_memory(error):
            self._timing = replace(timing, kind="single", together=timing.alone * timing.slots, reason=reason)
        else:
            alone = (self._step or 0.0) if timing is None else timing.alone
            self._timing = EngineTiming("alone", self._chunk, alone, reason=reason)

    def _start_again(self, lane: Lane) -> None:
        """Have a lane wait with new objects; one that cannot be made again, as where memory is short, goes on alone."""
        try:
            self._waiting.append(lane.again())
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._alone(lane)


def _bucket(count: int) -> int:
    """Seats for so many lanes: the next power of two, so that few programs do for any number."""
    return 1 << (count - 1).bit_length()
