"""Stack: trials of one structure that take their steps together, each at its own place in its own data."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.execute.inline import ended
from tuneflow.execute.lanes.batches import LaneBatches, smoothing_of
from tuneflow.execute.lanes.lane import Lane
from tuneflow.fused.label_smoothing import smoothed
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.metrics import Measured, accuracy, measure_accuracies, measure_losses
from tuneflow.train.evaluate import joined
from tuneflow.train.settings import Settings

CHECKED = (16, 256, 4096)  # steps of a stack after which its program is compared with plain autograd again
EVALUATED = 128  # rows that are evaluated at once; with many more lanes gain nothing by it, see docs/benchmarks.md
WORTH = 0.25  # share of the seats that evaluate at once, from which on all are evaluated together


class LaneStack:
    """Lanes in seats; a seat whose lane has ended is free for another one at once.

    Args:
        lanes: of one structure, see `structure_of`.
        seats: at least as many as lanes; empty ones cost as much as others.
        kind: "stacked" or "single", see fused.Lanes.
        programs: kept by the caller for all stacks of this structure.

    Raises:
        CannotFuse: they cannot be fused; the reason is in the message.
    """

    def __init__(self, lanes: Sequence[Lane], seats: int, kind: str, programs: ProgramCache) -> None:
        self.seats: list[Lane | None] = [*lanes, *[None] * (seats - len(lanes))]
        self._lanes = lanes_of(lanes, seats, kind, programs, [lane.randomness.generator for lane in lanes])
        for seat in range(len(lanes), seats):
            self._lanes.stop(seat)
        self._steps = 0
        self._together = evaluates_together(lanes[0].run.settings)

    @property
    def lanes(self) -> list[Lane]:
        return [lane for lane in self.seats if lane is not None]

    @property
    def free(self) -> int:
        return self.seats.count(None)

    def put(self, lane: Lane) -> None:
        """Give a free seat to a lane.

        Raises:
            CannotFuse: it is not alike, in a frozen parameter.
        """
        seat, run = self.seats.index(None), lane.run
        generator = lane.randomness.generator
        self._lanes.put(seat, run.whole, run.optimizer, clip=run.settings.clip, generator=generator)
        self.seats[seat] = lane

    def stop(self, trial: int) -> None:
        """Free the seat of a trial, where it has one."""
        for seat, lane in enumerate(self.seats):
            if lane is not None and lane.work.trial == trial:
                self._leave(seat)

    def unload(self) -> None:
        """Give each lane's tensors to its own run, so that it can be put elsewhere."""
        for seat, lane in enumerate(self.seats):
            if lane is not None:
                self._lanes.unload(seat)

    def advance(self) -> list[Event]:
        """Take steps until a lane has come to the end of an epoch, or has diverged or failed.

        Raises:
            CannotFuse: the program can no longer be trusted.
        """
        events: list[Event] = []
        while not events and self.lanes:
            for rows in sorted({lane.rows for lane in self.lanes}, reverse=True):
                events += self._step(rows)
            done = [seat for seat, lane in enumerate(self.seats) if lane is not None and lane.rows == 0]
            if done:
                events += self._report(done)
        return events

    def _step(self, rows: int) -> list[Event]:
        """One step of the lanes whose next batch has so many rows."""
        started = time.perf_counter()
        seats = [seat for seat, lane in enumerate(self.seats) if lane is not None and lane.rows == rows]
        moved = [seat for seat in seats if not self._of(seat).steady]
        events = self._each(moved, lambda seat, lane: lane.before_step())
        batches = LaneBatches(self.seats, seats, rows)
        events += self._each(seats, batches.load)
        moving = [seat for seat in seats if self.seats[seat] is not None]
        if not moving:
            return events
        if moved:
            self._lanes.settle()
        batch = batches.stacked(moving)
        if self._steps in CHECKED:
            self._lanes.check(batch)
        losses = self._lanes.step(batch, [seat in moving for seat in range(len(self.seats))])
        self._steps += 1
        share = (time.perf_counter() - started) / len(moving)

        def count(seat: int, lane: Lane) -> None:
            lane.seconds += share
            lane.after_step(losses[seat])

        return events + self._each(moving, count)

    def _report(self, seats: Sequence[int]) -> list[Event]:
        """Evaluate these lanes, which are at the end of an epoch, and report."""
        started = time.perf_counter()
        events: list[Event] = []
        for seat in seats:
            self._lanes.unload(seat)
        together = self._evaluate() if self._together and len(seats) >= WORTH * len(self.seats) else None
        spent = (time.perf_counter() - started) / len(seats)

        def measure(seat: int, lane: Lane) -> None:
            began = time.perf_counter()
            measured = lane.evaluate() if together is None else together.of(seat, lane)
            lane.seconds += spent + time.perf_counter() - began
            report = lane.after_epoch(measured)
            events.append(Reported(lane.work.trial, report, lane.state))
            if lane.over is not None:
                events.append(Ended(lane.work.trial, "STOPPED" if lane.over else "DONE", lane.over))
                self._leave(seat)

        failed = self._each(seats, measure)
        return events + failed

    def _evaluate(self) -> "_StackedOutputs | None":
        """What all lanes give over the validation part; None where that is refused."""
        valid = self.lanes[0].run.valid
        outputs, targets = [], []
        try:
            for inputs, wanted in valid.batches(_part(len(valid))):
                outputs.append(self._lanes.outputs(inputs))
                targets.append(wanted)
        except CannotFuse:
            self._together = False
            return None
        made = outputs[0] if len(outputs) == 1 else pytree.tree_map(lambda *parts: torch.cat(parts, 1), *outputs)
        return _StackedOutputs(made, joined(targets), self.lanes[0])

    def _each(self, seats: Iterable[int], act: Callable[[int, Lane], None]) -> list[Event]:
        """Have each lane do something; one that raises has ended, and disturbs no other."""
        events: list[Event] = []
        for seat in seats:
            lane = self.seats[seat]
            if lane is None:
                continue
            try:
                act(seat, lane)
            except Exception as error:
                events.append(ended(lane.work.trial, error, lane.seconds))
                self._leave(seat)
        return events

    def _of(self, seat: int) -> Lane:
        lane = self.seats[seat]
        assert lane is not None
        return lane

    def _leave(self, seat: int) -> None:
        self.seats[seat] = None
        self._lanes.stop(seat)


class _StackedOutputs:
    """Outputs of all lanes, each tensor (K, n, ...), and their losses."""

    def __init__(self, outputs: Any, targets: Any, lane: Lane) -> None:
        self._outputs, self._targets = outputs, targets
        settings, metrics = lane.run.settings, lane.trainer.metrics
        self._known: dict[str, list[Measured]] = {}
        with torch.no_grad(), suppress(Exception):  # of which each lane tells by itself
            if smoothing_of(settings) is None:  # the lanes have one loss
                self._known["loss"] = measure_losses(settings.loss, outputs, targets)
            if accuracy in metrics.values():
                name = next(name for name, metric in metrics.items() if metric is accuracy)
                self._known[name] = measure_accuracies(outputs, targets)

    def of(self, seat: int, lane: Lane) -> dict[str, Measured]:
        outputs = pytree.tree_map(lambda stack: stack[seat], self._outputs)
        known = {name: measured[seat] for name, measured in self._known.items()}
        with torch.no_grad():
            return lane.run.settings.measured(outputs, self._targets, known)


def lanes_of(
    lanes: Sequence[Lane],
    seats: int,
    kind: str,
    programs: ProgramCache,
    generators: Sequence[torch.Generator] | None = None,
) -> Lanes:
    """The core of a stack; empty seats hold copies of the first lane."""
    seated = [*lanes, *[lanes[0]] * (seats - len(lanes))]
    drawn = None
    if generators is not None:
        device = lanes[0].job.runtime.device
        drawn = [*generators, *(torch.Generator(device) for _ in range(seats - len(lanes)))]
    return Lanes(
        [lane.run.whole for lane in seated],
        _loss_of(lanes[0]),
        [lane.run.optimizer for lane in seated],
        kind=kind,
        clips=[lane.run.settings.clip for lane in seated],
        generators=drawn,
        programs=programs,
    )


def _part(rows: int) -> int:
    """Rows to be evaluated at once: about EVALUATED, and the same each time where that divides."""
    return math.ceil(rows / math.ceil(rows / EVALUATED))


def evaluates_together(settings: Settings) -> bool:
    """Whether loss and metrics are functions of outputs and targets."""
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
