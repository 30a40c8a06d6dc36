"""The race: short trainings at several learning rates, under the run's own schedule shortened to their length.

Every lane starts from the same weights and sees the same batches, so they differ by their rate only. Lanes are added
where the best one stands at the edge, and the optimum is read off a parabola through the best and its neighbors; where
lower lanes are as good but for one standard error, off the lower side of that valley.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, islice

import torch
from torch import Tensor

from tuneflow.data.data import Batch, sliced
from tuneflow.heuristics.range_test import FEWEST, Suggestions, suggestions, sweep
from tuneflow.probing.shortened_schedule import shortened
from tuneflow.train.evaluate import chunk_of
from tuneflow.train.gradients import backward
from tuneflow.train.job import Job
from tuneflow.train.rates import set_rate
from tuneflow.train.session import Session
from tuneflow.train.trainer import Trainer

FACTOR = 10**0.5  # between neighboring lanes
LOOKS = (0.75, 0.875, 1.0)  # when a lane is judged, as shares of its steps
JUDGED, PARTS = 512, 16  # rows at most at each look, and the parts whose spread gives the standard error
CLEAR = 3.0  # standard errors by which a lane is clearly worse; they are those of the rows, and training is noisy too
JUDGING = 0.25  # what the looks at a lane may cost, as a share of its steps

Judged = Tensor | None  # (parts,): the losses of a lane on parts of the rows; None where it diverged


@dataclass(frozen=True)
class Race:
    """What a race found.

    Attributes:
        rates: of the lanes, ascending.
        losses: validation loss of each lane, over 512 rows at most, the mean of three looks in its last quarter; inf
            where it diverged.
        best: the rate at the parabola's minimum, or at the lower side of a flat valley.
        steps: optimizer steps of each lane.
        gradients: what it cost, in gradients of a batch.
        errors: standard errors of the differences between each lane's loss and the lowest, on the same rows.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float
    steps: int
    gradients: float
    errors: tuple[float, ...]

    @property
    def edge(self) -> bool:
        """Whether the lane that `best` stands at has no neighbor on one side, so that better rates may lie beyond."""
        return _leader(dict(enumerate(self.losses)), dict(enumerate(self.errors))) in (0, len(self.losses) - 1)


def race(
    trainer: Trainer,
    job: Job,
    center: float,
    steps: int,
    lanes: int = 8,
    reach: float = 100.0,
    deadline: float = math.inf,
    budget: float = math.inf,
    looks: tuple[float, ...] = LOOKS,
) -> Race:
    """Train lanes around the rate `center` until the best has a worse neighbor on either side.

    Args:
        trainer: configured for the job.
        center: the rate to start from; the first lanes stand at about 1/3, 1 and 3 times it.
        steps: optimizer steps of each lane.
        lanes: the most lanes to train.
        reach: how far above the center a lane may be, as a factor; below it, the root of that.
        deadline: on `time.perf_counter`; no lane is begun later.
        budget: gradients; no lane is begun that would exceed it.
        looks: when a lane is judged, as shares of its steps.
    """
    track = _Track(trainer, job, steps, looks)
    found: dict[float, Judged] = {}
    wanted: float | None = 0
    while wanted is not None and len(found) < lanes:
        if found and (time.perf_counter() > deadline or track.gradients + track.cost > budget):
            break
        found[wanted] = track.run(center * math.pow(FACTOR, wanted))
        wanted = next_lane(*_compared(found), round(math.log(reach, FACTOR)), track.start)
    losses, errors = _compared(found)
    rates = tuple(center * math.pow(FACTOR, place) for place in losses)
    best = center * math.pow(FACTOR, lowest(losses, errors))
    return Race(rates, tuple(losses.values()), best, steps, track.gradients, tuple(errors.values()))


def affordable(trainer: Trainer, rows: int, cost: float) -> int:
    """Steps of a lane that costs `cost` gradients with the looks at it, where there are `rows` of validation data."""
    full = len(LOOKS) * min(JUDGED, rows) / trainer.batch_size / 3
    return int(max(cost - full, cost / (1 + JUDGING)))


Lanes = Mapping[float, float]  # place, in factors of FACTOR from the center, ascending: to a loss or a standard error


def _compared(found: Mapping[float, Judged]) -> tuple[dict[float, float], dict[float, float]]:
    """The loss of each lane, and the standard error of its difference from the lowest."""
    losses = {place: _mean(found[place]) for place in sorted(found)}
    best = found[min(losses, key=losses.__getitem__)]
    return losses, {place: _error(found[place], best) for place in losses}


def _mean(lane: Judged) -> float:
    return math.inf if lane is None else float(lane.mean())


def _error(lane: Judged, best: Judged) -> float:
    if lane is None or best is None or len(lane) < 2:
        return 0.0
    return float((lane - best).std()) / math.sqrt(len(lane))


def _best(losses: Lanes) -> float:
    return min(losses, key=lambda place: (losses[place], place))  # where all diverged, the lowest


def _leader(losses: Lanes, errors: Lanes, within: float = 1.0) -> float:
    """The lowest lane that is, with all between, as good as the best one but for so many standard errors."""
    best = leader = _best(losses)
    for place in sorted((place for place in losses if place < best), reverse=True):
        if losses[place] - losses[best] > within * errors[place]:
            break
        leader = place
    return leader


def next_lane(losses: Lanes, errors: Lanes, reach: int, start: float) -> float | None:
    """The lane to train next: a neighbor that the leader lacks, the upper one first; None where it has both.

    Below, one that is not clearly worse needs a neighbor too. Where the upper one ended above `start`, the loss before
    training, the optimum is next to a cliff, and no parabola can tell where: one more lane stands in between.
    """
    best, leader = _best(losses), _leader(losses, errors)
    if math.isinf(losses[best]):
        return best - 1 if best - 1 >= -reach else None
    if leader % 1:
        return None
    for place in (leader + 1, _leader(losses, errors, CLEAR) - 1):
        if place not in losses and -reach // 2 <= place <= reach:
            return place
    between = best + 0.5
    return between if leader == best and between not in losses and losses.get(best + 1, start) > start else None


def lowest(losses: Lanes, errors: Lanes) -> float:
    """The place where a parabola through the best lane and its neighbors is lowest.

    Where lower lanes are as good, that below the lowest of them where the loss is one error higher, in between lanes.
    """
    best, leader = _best(losses), _leader(losses, errors)
    below = max((place for place in losses if place < leader), default=None)
    above = min((place for place in losses if place > leader), default=None)
    if below is None or above is None or math.isinf(losses[below]):
        return leader
    if leader != best:
        far, near = (_excess(losses[place] - losses[best], errors[place]) for place in (below, leader))
        return leader - (leader - below) * (1 - near) / (far - near)
    if math.isinf(losses[above]):
        return best
    left, right = below - best, above - best
    falls, rises = (losses[below] - losses[best]) / left, (losses[above] - losses[best]) / right
    bend = (rises - falls) / (right - left)
    return best + (left - falls / bend) / 2 if bend > 0 else best


def _excess(rise: float, error: float) -> float:
    """A difference in standard errors."""
    return rise / error if error else math.inf if rise > 0 else 0.0


class _Track:
    """Where lanes run: all from the same weights, over the same batches.

    Attributes:
        start: the loss before training, on the first batch; inf before the first lane.
        cost: gradients of a whole lane.
        gradients: spent so far.
    """

    def __init__(self, trainer: Trainer, job: Job, steps: int, looks: tuple[float, ...]) -> None:
        self.trainer, self.job, self.steps = trainer, job, steps
        self.looks = {max(1, round(share * steps)) for share in looks}
        most = JUDGING * steps * trainer.batch_size * 3 / len(looks)  # a forward pass is a third of a gradient
        rows = max(1, min(JUDGED, len(trainer.valid), int(most)))
        self.size = max(min(2, rows), rows // PARTS)
        self.parts = rows // self.size
        self.look = self.size * self.parts / trainer.batch_size / 3
        self.cost = steps + len(looks) * self.look
        self.start, self.gradients = math.inf, 0.0

    def run(self, rate: float) -> Judged:
        """Train a lane and judge it."""
        run = self.trainer.session(self.job)
        run.begin()
        scale_rates(run, rate)
        schedule = shortened(run.settings.schedule, run.steps * run.settings.epochs)
        moving = schedule.attach(run.optimizer, run.groups, self.steps, 1)
        judged: list[Tensor] = []
        with self.job.at_work("race", 0):
            for step, batch in enumerate(islice(_endless(run), self.steps)):
                moving.before(step)
                self.gradients += 1
                value = backward(run.loss_of, run.whole, batch, run.optimizer, run.scaler)
                if not math.isfinite(value):
                    return None
                if math.isinf(self.start):
                    self.start = value * run.unit
                run.step()
                if step + 1 in self.looks:
                    judged.append(self._judged(run))
        mean = torch.stack(judged).mean(0)
        return mean if bool(mean.isfinite().all()) else None

    def _judged(self, run: Session) -> Tensor:
        """Validation losses on parts of the rows, equally large."""
        run.module.eval()
        with torch.no_grad(), self.job.runtime.autocast():
            losses = torch.tensor([float(loss) for loss in islice(self._losses(run), self.parts)])
        run.module.train()
        self.gradients += self.look
        return losses

    def _losses(self, run: Session) -> Iterator[Tensor]:
        """The loss of one part after the other, their outputs computed together where the loss is of outputs only."""
        at_once = min(self.parts, max(1, chunk_of(run.valid) // self.size)) * self.size
        for inputs, targets in run.valid.batches(at_once):
            outputs = None if run.settings.own_loss else run.whole(inputs)
            if isinstance(outputs, Tensor):
                yield from (run.settings.loss(*part) for part in sliced((outputs, targets), self.size))
            else:
                yield from (run.settings.loss_of(run.whole, part) for part in sliced((inputs, targets), self.size))


def range_test(
    trainer: Trainer, job: Job, low: float = 1e-6, high: float = 10.0, steps: int = 60
) -> Suggestions | None:
    """What a range test on a run of its own suggests; None where the loss explodes before there is a curve."""
    run = trainer.session(job)
    run.begin()
    batches = _endless(run)

    def step(rate: float) -> float:
        scale_rates(run, rate)
        value = backward(run.loss_of, run.whole, next(batches), run.optimizer, run.scaler)
        if math.isfinite(value):
            run.step(clipped=False)
        return value

    with job.at_work("range test", 0):
        rates, losses = sweep(step, low, high, steps)
    return suggestions(rates, losses) if len(losses) >= FEWEST else None


def scale_rates(run: Session, rate: float) -> None:
    """Give the first parameter group this learning rate, and the others theirs in proportion."""
    first = float(run.groups[0]["lr"])
    for group, made in zip(run.optimizer.param_groups, run.groups, strict=True):
        made["lr"] = rate * float(made["lr"]) / first if first else rate
        set_rate(group, made["lr"])


def _endless(run: Session) -> Iterator[Batch]:
    return chain.from_iterable(run.batches(epoch) for epoch in count(1))
