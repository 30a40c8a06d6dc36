"""LaneStack: lanes of one structure that take their steps together, each at its own position in its data."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.inline import ended
from tuneflow.execute.lanes.batches import LaneBatches, smoothing_of
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.stacked_evaluation import StackedEvaluation
from tuneflow.fused.label_smoothing import smoothed
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.train.evaluate import loaded, split
from tuneflow.train.evaluation_plan import Plan
from tuneflow.train.running_measures import Chunk
from tuneflow.train.session import Session
from tuneflow.train.settings import Settings

CHECKED = (16, 256, 4096)  # steps of a stack after which its program is compared with plain autograd again
EVALUATED = 128  # rows that are evaluated at once; with many more lanes gain nothing by it, see docs/benchmarks.md
WORTH = 0.25  # share of the slots at the end of an epoch, from which on all are evaluated together


class LaneStack:
    """A fixed number of slots for lanes; the slot of a lane that has ended is free for another at once.

    Args:
        lanes: of one structure, see `structure_of`.
        slots: number of slots, at least as many as lanes; empty ones cost as much as others.
        kind: "stacked" or "single", as in fused.Lanes.
        programs: the traced programs of this structure, shared by all of its stacks.

    Raises:
        CannotFuse: they cannot be fused; the reason is in the message.
    """

    def __init__(self, lanes: Sequence[Lane], slots: int, kind: str, programs: ProgramCache) -> None:
        self.slots: list[Lane | None] = [*lanes, *[None] * (slots - len(lanes))]
        self._lanes = lanes_of(lanes, slots, kind, programs, [lane.randomness.generator for lane in lanes])
        for slot in range(len(lanes), slots):
            self._lanes.stop(slot)
        self._steps = 0
        self._together = evaluates_together(lanes[0].run.settings)

    @property
    def lanes(self) -> list[Lane]:
        return [lane for _, lane in self._held]

    @property
    def _held(self) -> list[tuple[int, Lane]]:
        return [(slot, lane) for slot, lane in enumerate(self.slots) if lane is not None]

    @property
    def free(self) -> int:
        return self.slots.count(None)

    def put(self, lane: Lane) -> None:
        """Put a lane into a free slot.

        Raises:
            CannotFuse: a frozen parameter differs from the others'.
        """
        slot, run = self.slots.index(None), lane.run
        generator = lane.randomness.generator
        self._lanes.put(slot, run.whole, run.optimizer, clip=run.settings.clip, generator=generator)
        self.slots[slot] = lane

    def stop(self, trial: int) -> None:
        """Free the slot of a trial, if it has one."""
        for slot, lane in self._held:
            if lane.work.trial == trial:
                self._leave(slot)

    def unload(self) -> None:
        """Copy each lane's tensors to its own run, so that it can move to another stack."""
        for slot, _ in self._held:
            self._lanes.unload(slot)

    def advance(self) -> list[Event]:
        """Take steps until a lane finishes an epoch, diverges or fails.

        Raises:
            CannotFuse: the program can no longer be trusted.
        """
        events: list[Event] = []
        while not events and self.lanes:
            for rows in sorted({lane.rows for lane in self.lanes}, reverse=True):
                events += self._step(rows)
            done = [slot for slot, lane in self._held if lane.rows == 0]
            if done:
                events += self._report(done)
        return events

    def _step(self, rows: int) -> list[Event]:
        """Take one step with the lanes whose next batch has `rows` rows."""
        started = time.perf_counter()
        slots = [slot for slot, lane in self._held if lane.rows == rows]
        moved = [slot for slot, lane in self._held if lane.rows == rows and not lane.steady]
        events = self._each(moved, lambda _, lane: lane.before_step())
        batches = LaneBatches(self.slots, slots, rows)
        events += self._each(slots, batches.load)
        moving = [slot for slot in slots if self.slots[slot] is not None]
        if not moving:
            return events
        if moved:
            self._lanes.settle()
        batch = batches.stacked(moving)
        if self._steps in CHECKED:
            self._lanes.check(batch)
        losses = self._lanes.step(batch, [slot in moving for slot in range(len(self.slots))])
        self._steps += 1
        share = (time.perf_counter() - started) / len(moving)

        def count(slot: int, lane: Lane) -> None:
            lane.seconds += share
            lane.after_step(losses[slot])

        return events + self._each(moving, count)

    def _report(self, slots: Sequence[int]) -> list[Event]:
        """Evaluate lanes at the end of an epoch, and report it."""
        started = time.perf_counter()
        events: list[Event] = []
        for slot in slots:
            self._lanes.unload(slot)
        together = self._evaluate(slots) if self._together and len(slots) >= WORTH * len(self.slots) else None
        spent = (time.perf_counter() - started) / len(slots)

        def measure(slot: int, lane: Lane) -> None:
            began = time.perf_counter()
            measured = lane.evaluate() if together is None else {**together.of(slot), **lane.of_module()}
            lane.seconds += spent + time.perf_counter() - began
            report = lane.after_epoch(measured)
            events.append(Reported(lane.work.trial, report, lane.state))
            if lane.over is not None:
                events.append(Ended(lane.work.trial, "STOPPED" if lane.over else "DONE", lane.over))
                self._leave(slot)

        failed = self._each(slots, measure)
        return events + failed

    def _evaluate(self, slots: Sequence[int]) -> StackedEvaluation | None:
        """Return the evaluation of the lanes in these slots; None where they cannot be fused."""
        lanes = {slot: lane for slot, lane in self._held if slot in slots}
        run = lanes[slots[0]].run
        plan: Plan | None = None
        try:
            for inputs, targets, count in loaded(run.valid, _part(len(run.valid))):
                if plan is None:
                    plan = _plan(run, Chunk(inputs, targets, None, count))
                    evaluation = StackedEvaluation(lanes, plan, len(run.valid))
                for part in split((inputs, targets), count, plan.rows(len(self.slots))):
                    evaluation.add(self._lanes.outputs(part[0]), Chunk(part[0], part[1], None, part[2]))
        except CannotFuse:
            self._together = False
            return None
        return evaluation

    def _each(self, slots: Iterable[int], act: Callable[[int, Lane], None]) -> list[Event]:
        """Call `act` for each lane; one that raises has ended, and the others go on."""
        events: list[Event] = []
        for slot in slots:
            lane = self.slots[slot]
            if lane is None:
                continue
            try:
                act(slot, lane)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                events.append(ended(lane.work.trial, error, lane.seconds))
                self._leave(slot)
        return events

    def _leave(self, slot: int) -> None:
        self.slots[slot] = None
        self._lanes.stop(slot)


def lanes_of(
    lanes: Sequence[Lane],
    slots: int,
    kind: str,
    programs: ProgramCache,
    generators: Sequence[torch.Generator] = (),
) -> Lanes:
    """Return the fused lanes of a stack; empty slots hold copies of the first lane."""
    filled = [*lanes, *[lanes[0]] * (slots - len(lanes))]
    device = lanes[0].job.runtime.device
    return Lanes(
        [lane.run.whole for lane in filled],
        _loss_of(lanes[0]),
        [lane.run.optimizer for lane in filled],
        kind=kind,
        clips=[lane.run.settings.clip for lane in filled],
        generators=[*generators, *(torch.Generator(device) for _ in range(slots - len(generators)))],
        programs=programs,
    )


def _plan(run: Session, first: Chunk) -> Plan:
    with run.evaluating():
        return run.settings.plan(run.whole, run.valid, first)


def _part(rows: int) -> int:
    """The number of rows to evaluate at once: about EVALUATED, in parts of equal size where possible."""
    return math.ceil(rows / math.ceil(rows / EVALUATED))


def evaluates_together(settings: Settings) -> bool:
    """True if loss and metrics are functions of outputs and targets, but for metrics of the module."""
    return not (settings.own_loss or settings.own_evaluation)


def _loss_of(lane: Lane) -> Callable[[nn.Module, Any], Tensor]:
    run = lane.run
    if smoothing_of(run.settings) is None or not isinstance(run.settings.loss, nn.CrossEntropyLoss):
        return run.loss_of
    loss = smoothed(run.settings.loss)

    def with_amount(module: nn.Module, batch: Any) -> Tensor:
        (inputs, targets), amount = batch
        made: Tensor = loss(module(inputs), targets, amount)
        return made

    return with_amount
