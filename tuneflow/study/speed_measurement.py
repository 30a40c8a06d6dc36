"""Advice: how much faster another precision, layout or lanes would train, measured on the study's own trials."""

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from tuneflow.analysis.speed_gain import SpeedGain
from tuneflow.check.dry_run import small
from tuneflow.errors import exceptions_only
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

STEPS = 5  # timed of each contestant, after one to warm up
SECONDS = 20.0  # after which no further step is timed
WORTH = 1.1  # smallest gain that is shown, of precision and layout
LANES = 16
LANES_WORTH = 1.2  # smallest gain that is shown, of lanes

Step = Callable[[], bool]  # takes a step; True if the loss was finite


def precision_advice(trainer: Trainer, job: Job) -> SpeedGain | None:
    """Return the gain of training the job in another precision or layout; None below 1.1.

    Where the job's runtime was given precision="auto", bf16 is tried; and channels_last, with it and alone, where the
    model has weights of four dimensions. All take the same few steps in turn, each on a module, an optimizer and a copy
    of a batch of its own. The trainer, its data and the global generators are left as they were.

    Args:
        trainer: as the study has it, not configured for the job.
        job: the job to measure.
    """
    few = small(trainer, trainer.configured(job.config).batch_size).configured(job.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = _decided(few, job)
        steps = {other: step for other in alternatives(few, job) if (step := _step(few, replace(job, runtime=other)))}
        gains, rounds = measured_gains(steps, time.perf_counter() + SECONDS)
    best = max(gains, key=lambda other: round(gains[other], 1), default=None)
    if best is None or gains[best] < WORTH:
        return None
    settings = {"precision": f'"{best.precision}"', "channels_last": str(best.channels_last)}
    changed = ", ".join(f"{name}={value}" for name, value in settings.items() if value not in ('"fp32"', "False"))
    kind, setting = "precision" if best.precision != job.runtime.precision else "layout", f"Runtime({changed})"
    line = (
        f"{kind}: {best.label} would train this {gains[best]:.1f}x faster here (measured over {rounds} steps);"
        f" set {setting}"
    )
    return SpeedGain(kind, gains[best], setting, line)


def lanes_advice(trainer: Any, job: Job) -> SpeedGain | None:
    """Return the gain of lanes for trials like this one; None below 1.2, or where it is not measured."""
    if trainer.alone():
        return None
    from tuneflow.execute.lanes.benchmark import gain_of_lanes  # torch's tracing is slow to import

    try:
        with exceptions_only("training"):
            gain = gain_of_lanes(trainer.single, trainer.jobs(job)[0], LANES)
    except Exception:
        return None  # the trials themselves show what is wrong
    setting = f"Runtime(lanes={LANES})"
    line = f"lanes: {setting} would train trials like this {gain:.1f}x faster"
    return SpeedGain("lanes", gain, setting, line) if gain >= LANES_WORTH else None


def alternatives(trainer: Trainer, job: Job) -> Iterator[Runtime]:
    """Yield the job's own runtime, and those to compare it with."""
    own, images = job.runtime, _has_images(trainer, job)
    for precision in ("fp32", "bf16") if "precision" in own.advises else (own.precision,):
        for channels_last in (False, True) if images and not own.channels_last else (own.channels_last,):
            other = copy.copy(own)
            other.precision, other.channels_last = precision, channels_last
            yield other


def _decided(trainer: Trainer, job: Job) -> Job:
    """Return the job with the steps of its model decided on, once for all that are compared."""
    if job.model is None or not job.model.steps:
        return job
    try:
        with exceptions_only("a step"):
            return replace(job, model=job.model.decided(trainer.session(job).recipe))
    except Exception:  # as below
        return job


def _has_images(trainer: Trainer, job: Job) -> bool:
    """True if the model has weights of four dimensions."""
    try:
        with exceptions_only("the builder"):
            return any(weight.ndim == 4 for weight in trainer.session(job).module.parameters())
    except Exception:  # the dry run or the first trial shows what fails here
        return False


def _step(trainer: Trainer, job: Job) -> Step | None:
    """Return a function that takes steps of a session of its own, on one batch; None where there is none."""
    try:
        with exceptions_only("training"):
            run = trainer.session(job)
        with exceptions_only("training"), job.at_work("advice", 0):
            batch = next(iter(run.batches(1)))
    except Exception:  # as above
        return None

    def step() -> bool:
        with job.at_work("advice", 1):
            finite = math.isfinite(run.backward(batch))
            run.step()
            if job.runtime.device.type != "cpu":
                torch.accelerator.synchronize()
        return finite

    return step


def measured_gains(steps: dict[Runtime, Step], deadline: float) -> tuple[dict[Runtime, float], int]:
    """Return the speed of each of the others relative to the first, and the number of rounds that were timed.

    A speed is the median over the rounds. A contestant that fails, or whose loss is not finite, is left out; all are
    where that is the first.
    """
    taken: dict[Runtime, list[float]] = {runtime: [] for runtime in steps}
    first = next(iter(taken), None)
    for number in range(STEPS + 1):
        if number > 1 and time.perf_counter() > deadline:
            break
        for runtime in list(taken):
            started = time.perf_counter()
            if not _took(steps[runtime]):
                del taken[runtime]
            elif number:
                taken[runtime].append(time.perf_counter() - started)
    if first is None or first not in taken:
        return {}, 0
    base = taken.pop(first)
    gains = {
        runtime: statistics.median(b / s for b, s in zip(base, seconds, strict=True))
        for runtime, seconds in taken.items()
    }
    return gains, len(base)


def _took(step: Step) -> bool:
    try:
        with exceptions_only("training"):
            return step()
    except Exception:
        return False
