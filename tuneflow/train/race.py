"""The race: short trainings at several learning rates, under the run's own schedule compressed to their length.

Every lane starts from the same weights and sees the same batches, so they differ by their rate only. Lanes are added
where the best one stands at the edge, and the optimum is read off a parabola through the best and its neighbours.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice

import torch

from tuneflow.data import Batch
from tuneflow.heuristics.range_test import FEWEST, Suggestions, suggestions, sweep
from tuneflow.train.backward import backward
from tuneflow.train.evaluate import chunk_of
from tuneflow.train.job import Job
from tuneflow.train.rates import Constant, Plateau, Torch, set_rate
from tuneflow.train.run import Run
from tuneflow.train.trainer import Trainer

FACTOR = 10**0.5  # between neighbouring lanes
JUDGED = 512  # rows at most that a lane is judged on


@dataclass(frozen=True)
class Race:
    """What a race found.

    Attributes:
        rates: of the lanes, ascending.
        losses: validation loss at the end of each lane, over 512 rows at most; inf where it diverged.
        best: the rate at the parabola's minimum.
        steps: optimizer steps of each lane.
        gradients: what it cost, in gradients of a batch.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float
    steps: int
    gradients: float


def race(
    trainer: Trainer,
    job: Job,
    centre: float,
    steps: int,
    lanes: int = 8,
    reach: float = 100.0,
    deadline: float = math.inf,
    budget: float = math.inf,
) -> Race:
    """Train lanes around the rate `centre` until the best has a worse neighbour on either side.

    Args:
        trainer: configured for the job.
        centre: the rate to start from; the first lanes stand at about 1/3, 1 and 3 times it.
        steps: optimizer steps of each lane.
        lanes: the most lanes to train.
        reach: how far above the centre a lane may be, as a factor; below it, the root of that.
        deadline: on `time.perf_counter`; no lane is begun later.
        budget: gradients; no lane is begun that would exceed it.
    """
    track = _Track(trainer, job, steps)
    losses: dict[int, float] = {}
    wanted: int | None = 0
    while wanted is not None and len(losses) < lanes:
        if losses and (time.perf_counter() > deadline or track.gradients + steps > budget):
            break
        losses[wanted] = track.run(centre * FACTOR**wanted)
        wanted = _next(losses, round(math.log(reach, FACTOR)))
    ordered = sorted(losses)
    rates = tuple(centre * FACTOR**place for place in ordered)
    scores = tuple(losses[place] for place in ordered)
    return Race(rates, scores, _lowest(rates, scores), steps, track.gradients)


def _next(losses: dict[int, float], reach: int) -> int | None:
    """The lane to train next: a neighbour that the best one lacks, the upper one first; None where it has both."""
    best = min(losses, key=lambda place: (losses[place], place))  # where all diverged, the lowest
    for place in (best + 1, best - 1):
        if place not in losses and -reach // 2 <= place <= reach and not math.isinf(losses[best]):
            return place
    return best - 1 if math.isinf(losses[best]) and best - 1 >= -reach else None


def _lowest(rates: tuple[float, ...], losses: tuple[float, ...]) -> float:
    """The rate where a parabola through the best lane and its neighbours, in log rate, is lowest."""
    best = min(range(len(losses)), key=losses.__getitem__)
    if not 0 < best < len(losses) - 1 or not all(map(math.isfinite, losses[best - 1 : best + 2])):
        return rates[best]
    below, here, above = losses[best - 1 : best + 2]
    bend = below - 2 * here + above
    shift = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return rates[best] * math.pow(FACTOR, max(-0.5, min(0.5, shift)))


class _Track:
    """Where lanes run: all from the same weights, over the same batches."""

    def __init__(self, trainer: Trainer, job: Job, steps: int) -> None:
        self.trainer, self.job, self.steps = trainer, job, steps
        self.gradients = 0.0

    def run(self, rate: float) -> float:
        """Train a lane; its loss."""
        trainer, run = self.trainer, Run(self.trainer, self.job)
        run.begin()
        scale_rates(run, rate)
        schedule = Constant() if isinstance(trainer.schedule, Plateau | Torch) else trainer.schedule
        moving = schedule.attach(run.optimizer, run.settings, self.steps, 1)
        with self.job.at_work("race", 0):
            for step, batch in enumerate(islice(_endless(run), self.steps)):
                moving.before(step)
                self.gradients += 1
                if not math.isfinite(backward(run.loss_of, run.whole, batch, run.optimizer, run.scaler)):
                    return math.inf
                run.step(trainer.clip)
            return self._judged(run)

    def _judged(self, run: Run) -> float:
        size = min(JUDGED, chunk_of(run.valid))
        run.module.eval()
        total, rows = 0.0, 0
        with torch.no_grad(), self.job.runtime.autocast():
            for batch in islice(run.valid.batches(size), JUDGED // size):
                here = min(size, len(run.valid) - rows)
                total += here * float(self.trainer.loss_of(run.whole, batch))
                rows += here
        self.gradients += rows / self.trainer.batch_size / 3  # a forward pass is a third of a gradient
        return total / rows if math.isfinite(total) else math.inf


def range_test(
    trainer: Trainer, job: Job, low: float = 1e-6, high: float = 10.0, steps: int = 60
) -> Suggestions | None:
    """What a range test on a run of its own suggests; None where the loss explodes before there is a curve."""
    run = Run(trainer, job)
    run.begin()
    batches = _endless(run)

    def step(rate: float) -> float:
        scale_rates(run, rate)
        value = backward(run.loss_of, run.whole, next(batches), run.optimizer, run.scaler)
        if math.isfinite(value):
            run.step(clip=None)
        return value

    with job.at_work("range test", 0):
        rates, losses = sweep(step, low, high, steps)
    return suggestions(rates, losses) if len(losses) >= FEWEST else None


def scale_rates(run: Run, rate: float) -> None:
    """Give the first parameter group this learning rate, and the others theirs in proportion."""
    first = float(run.settings[0]["lr"])
    for group, made in zip(run.optimizer.param_groups, run.settings, strict=True):
        made["lr"] = rate * float(made["lr"]) / first if first else rate
        set_rate(group, made["lr"])


def _endless(run: Run) -> Iterator[Batch]:
    return chain.from_iterable(run.batches(epoch) for epoch in count(1))
