"""Advice: what lanes would bring to a study that trains without them, measured on its own trials."""

from typing import Any

from tuneflow.execute.guard import guarded
from tuneflow.execute.lanes.benchmark import measure, time_alone
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.structure import unfit_lane
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.history.trial import Slice
from tuneflow.train.job import Job

LANES = 16
SLOW = 0.01  # seconds of a step, above which lanes bring little
LARGE = 2**20  # parameters, above which so many copies are not made for an advice
LEAST = 1.2  # times as fast: less is not worth the words


def advice(trainer: Any, job: Job) -> str:
    """What `Runtime(lanes=...)` would bring to trials like this one; empty where it is little, or cannot be said.

    Nothing that is being trained is touched: lanes are made anew, and trained for a few steps.
    """
    if trainer.alone():
        return ""
    try:
        with guarded(), job.runtime.active():
            lane = Lane(Slice(0, 0, 1), trainer, job, None)
            if unfit_lane(lane) or sum(p.numel() for p in lane.run.parameters) > LARGE:
                return ""
            alone = time_alone(lane)
            if alone > SLOW:
                return ""
            lanes = [lane, *(lane.again() for _ in range(LANES - 1))]
            gain = measure(lanes, LANES, ProgramCache(), alone).gain
    except Exception:
        return ""  # the trials themselves will tell what is wrong
    return f"lanes: Runtime(lanes={LANES}) would train trials like this {gain:.1f} times as fast" * (gain >= LEAST)
