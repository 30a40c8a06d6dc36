"""Time a step with each engine, on the lanes that are to be trained."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils import _pytree as pytree

from tuneflow.execute.guard import Guarded
from tuneflow.execute.lanes.batches import with_smoothing
from tuneflow.execute.lanes.engine_cache import EngineTiming
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.lane_stack import lanes_of
from tuneflow.execute.lanes.structure import unfit_lane
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.history.trial import Slice
from tuneflow.runtime.retries import is_out_of_memory
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

STEPS = 5  # timed of each engine, at most
ENOUGH = 0.5  # seconds, after which no further step is timed
CLEAR = 1.5  # speed relative to alone, from which on no other engine is tried
GAIN = 1.05  # less is not worth the other rounding
SLOW = 0.01  # seconds of a step, above which lanes bring little
LARGE = 2**20  # parameters, above which so many copies are not made to measure


def time_alone(lane: Lane) -> float:
    """Return the seconds of a step in plain torch, measured on copies."""
    run = lane.trainer.resumed(lane.job, lane.state)

    def step() -> None:
        run.backward(batch)
        run.step()

    with lane.job.at_work("measure", 0):
        batch = run.first_rows(run.settings.batch_size)
        step()
        return min(_times(step))


def measure(lanes: Sequence[Lane], slots: int, programs: ProgramCache, alone: float) -> EngineTiming:
    """Trace, check and time the engines on these lanes, which are left as they are.

    Args:
        lanes: of one structure.
        slots: size of the stack to time, at least as many as lanes.
        programs: the structure's traced programs, to be used and added to.
        alone: seconds of a step in plain torch.
    """
    timings: list[EngineTiming] = []
    reasons = []
    with lanes[0].job.at_work("measure", 0):
        rows = lanes[0].run.first_rows(lanes[0].run.settings.batch_size)
        repeated = pytree.tree_map(lambda leaf: torch.stack([leaf] * slots), rows)
        batch = with_smoothing(repeated, [*lanes, *[None] * (slots - len(lanes))])
        for kind in _kinds(timings):
            began = time.perf_counter()
            try:
                stack = lanes_of(lanes, slots, kind, programs)
                stack.step(batch)
                traced = time.perf_counter() - began
                taken = min(_times(lambda stack=stack: stack.step(batch)))  # type: ignore[misc]
                timings.append(EngineTiming(kind, slots, alone, taken, max(0.0, traced - taken)))
            except CannotFuse as error:
                reasons.append(str(error))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # tracing may fail in any way; training alone always works
                if is_out_of_memory(error):
                    raise
                reasons.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    best = max(timings, key=lambda timing: timing.gain, default=None)
    if best is not None and best.gain >= GAIN:
        return best
    return EngineTiming("alone", slots, alone, reason="" if best is not None else reasons[0])


def gain_of_lanes(trainer: Trainer, job: Job, count: int) -> float:
    """Return the speed of `count` lanes relative to training alone; 1 where lanes bring nothing or little.

    Lanes are made anew and trained for a few steps; nothing that is being trained is touched.

    Args:
        trainer: as the study has it, not configured for the job.
        job: what each lane trains.
        count: number of lanes.
    """
    with Guarded(), job.runtime.active():
        lane = Lane(Slice(0, 0, 1), trainer, job, None)
        if unfit_lane(lane) or sum(p.numel() for p in lane.run.parameters) > LARGE:
            return 1.0
        alone = time_alone(lane)
        if alone > SLOW:
            return 1.0
        lanes = [lane, *(lane.again() for _ in range(count - 1))]
        return measure(lanes, count, ProgramCache(), alone).gain


def _kinds(timings: Sequence[EngineTiming]) -> Iterator[Literal["stacked", "single"]]:
    """Yield the engines to try; the second only if the first is not clearly faster than plain torch."""
    yield "stacked"
    if not timings or timings[0].gain < CLEAR:
        yield "single"


def _times(step: Callable[[], Any]) -> list[float]:
    taken = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
        if sum(taken) > ENOUGH:
            break
    return taken
