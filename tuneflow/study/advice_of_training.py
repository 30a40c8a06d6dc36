"""Advice: what another precision or layout would bring here. It is measured and said, and nothing is changed by it."""

import copy
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from tuneflow.check.dry_run import small
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

STEPS = 5  # timed of each contestant, after one to warm up
SECONDS = 20.0  # after which no further step is timed
WORTH = 1.1  # a smaller gain is not worth a word

Step = Callable[[], bool]  # takes a step; whether the loss was finite


def advice(trainer: Trainer, job: Job) -> str:
    """How many times as fast the job would train in another precision or layout, as a line; empty below 1.1.

    Where the job's runtime was given precision="auto", bf16 is tried; and channels_last, with it and alone, where the
    model has weights of four dimensions. All take the same few steps in turn, each on a module, an optimizer and a copy
    of a batch of its own. The trainer, its data and the global generators are left as they were.

    Args:
        trainer: as the study has it, not configured for the job.
    """
    made = small(trainer, trainer.configured(job.config).batch_size)
    made = made.configured(job.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = {other: step for other in alternatives(made, job) if (step := _step(made, replace(job, runtime=other)))}
        gains, rounds = measured_gains(steps, time.perf_counter() + SECONDS)
    best = max(gains, key=lambda other: round(gains[other], 1), default=None)
    if best is None or gains[best] < WORTH:
        return ""
    given = {"precision": f'"{best.precision}"', "channels_last": str(best.channels_last)}
    words = ", ".join(f"{name}={value}" for name, value in given.items() if value not in ('"fp32"', "False"))
    return (
        f"{'precision' if best.precision != job.runtime.precision else 'layout'}: {best.label} would train this"
        f" {gains[best]:.1f} times as fast here (measured over {rounds} steps); Runtime({words}) does so"
    )


def alternatives(trainer: Trainer, job: Job) -> Iterator[Runtime]:
    """The job's own runtime, and those to compare it with."""
    own, images = job.runtime, _has_images(trainer, job)
    for precision in ("fp32", "bf16") if "precision" in own.advises else (own.precision,):
        for channels_last in (False, True) if images and not own.channels_last else (own.channels_last,):
            made = copy.copy(own)
            made.precision, made.channels_last = precision, channels_last
            yield made


def _has_images(trainer: Trainer, job: Job) -> bool:
    """Whether there are weights of four dimensions."""
    try:
        return any(weight.ndim == 4 for weight in trainer.session(job).module.parameters())
    except Exception:  # what fails here is told by the dry run, or by the first trial
        return False


def _step(trainer: Trainer, job: Job) -> Step | None:
    """Takes steps of a run of its own, on one batch; None where there is none to be had."""
    try:
        run = trainer.session(job)
        with job.at_work("advice", 0):
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
    """How many times as fast as the first each of the others is, by the median of the rounds; and how many there were.

    One that fails, or whose loss is not finite, is left out; all are where that is the first.
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
        return step()
    except Exception:
        return False
