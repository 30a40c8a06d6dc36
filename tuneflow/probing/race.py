"""The race: short trainings at several learning rates, the racers, under the trial's own schedule shortened to them.

All racers start from the same weights and see the same batches, so they differ by their rate only. Racers are added
until the best one is not at the edge, and the optimum is read off a parabola through the best and its neighbors; where
lower rates are as good within one standard error, off the lower side of that valley.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, islice

import torch
from torch import Tensor

from tuneflow.data.data import Batch, sliced
from tuneflow.heuristics.range_test import FEWEST, Suggestions, suggestions, sweep
from tuneflow.probing.shortened_schedule import shortened
from tuneflow.train.evaluate import chunk_of
from tuneflow.train.evaluated_loss import evaluated
from tuneflow.train.gradients import backward
from tuneflow.train.job import Job
from tuneflow.train.rates import set_rate
from tuneflow.train.session import Session
from tuneflow.train.trained_loss import evaluating
from tuneflow.train.trainer import Trainer

FACTOR = 10**0.5  # between neighboring racers
LOOKS = (0.75, 0.875, 1.0)  # when a racer is judged, as shares of its steps
JUDGED, PARTS = 512, 16  # rows at most at each look, and the parts whose spread gives the standard error
CLEAR = 3.0  # standard errors by which a racer is clearly worse; they are those of the rows, and training is noisy too
JUDGING = 0.25  # what the looks at a racer may cost, as a share of its steps

Judged = Tensor | None  # (parts,): the losses of a racer on parts of the rows; None where it diverged
AtEnd = Callable[[float, Session], None] | None
ByOffset = Mapping[float, float]  # by factors of FACTOR from the center, ascending: a loss or a standard error


@dataclass(frozen=True)
class Race:
    """The result of a race.

    Attributes:
        rates: learning rates of the racers, ascending.
        losses: validation loss of each racer, over 512 rows at most, the mean of three looks in its last quarter; inf
            where it diverged.
        best: the rate at the parabola's minimum, or at the lower side of a flat valley.
        steps: optimizer steps of each racer.
        gradients: the cost, in gradients of a batch.
        errors: standard errors of the differences between each racer's loss and the lowest, on the same rows.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float
    steps: int
    gradients: float
    errors: tuple[float, ...]

    @property
    def edge(self) -> bool:
        """True if the racer at `best` has no neighbor on one side, so that better rates may lie beyond."""
        return _leader(dict(enumerate(self.losses)), dict(enumerate(self.errors))) in (0, len(self.losses) - 1)


def race(
    trainer: Trainer,
    job: Job,
    center: float,
    steps: int,
    racers: int = 8,
    reach: float = 100.0,
    deadline: float = math.inf,
    budget: float = math.inf,
    looks: tuple[float, ...] = LOOKS,
    at_end: AtEnd = None,
) -> Race:
    """Train racers around the rate `center` until the best has a worse neighbor on either side.

    A racer that raises counts as diverged once another has come to its end; before that the exception is raised.

    Args:
        trainer: configured for the job.
        job: model, configuration, runtime and seed.
        center: the rate to start from; the first racers have about 1/3, 1 and 3 times it.
        steps: optimizer steps of each racer.
        racers: the largest number of racers.
        reach: the largest rate, as a factor of the center; the smallest is the center over the root of it.
        deadline: on `time.perf_counter`; no racer starts later.
        budget: gradients of a batch; no racer starts that would exceed it.
        looks: when the validation loss is measured, as shares of a racer's steps.
        at_end: called with the rate and the session of each racer that did not diverge.
    """
    track = _Track(trainer, job, steps, looks, at_end)
    results: dict[float, Judged] = {}
    wanted: float | None = 0
    while wanted is not None and len(results) < racers:
        if results and (time.perf_counter() > deadline or track.gradients + track.cost > budget):
            break
        try:
            results[wanted] = track.train(center * math.pow(FACTOR, wanted))
        except Exception:
            if all(racer is None for racer in results.values()):
                raise
            results[wanted] = None
        wanted = next_racer(*_compared(results), round(math.log(reach, FACTOR)), track.start)
    losses, errors = _compared(results)
    rates = tuple(center * math.pow(FACTOR, offset) for offset in losses)
    best = center * math.pow(FACTOR, lowest(losses, errors))
    return Race(rates, tuple(losses.values()), best, steps, track.gradients, tuple(errors.values()))


def affordable(trainer: Trainer, rows: int, cost: float) -> int:
    """Steps of a racer that costs `cost` gradients with its looks, given `rows` of validation data."""
    full = len(LOOKS) * min(JUDGED, rows) / trainer.batch_size / 3
    return int(max(cost - full, cost / (1 + JUDGING)))


def _compared(results: Mapping[float, Judged]) -> tuple[dict[float, float], dict[float, float]]:
    """Return the loss of each racer, and the standard error of its difference from the lowest."""
    losses = {offset: _mean(results[offset]) for offset in sorted(results)}
    best = results[min(losses, key=losses.__getitem__)]
    return losses, {offset: _error(results[offset], best) for offset in losses}


def _mean(racer: Judged) -> float:
    return math.inf if racer is None else float(racer.mean())


def _error(racer: Judged, best: Judged) -> float:
    if racer is None or best is None or len(racer) < 2:
        return 0.0
    return float((racer - best).std()) / math.sqrt(len(racer))


def _best(losses: ByOffset) -> float:
    return min(losses, key=lambda offset: (losses[offset], offset))  # where all diverged, the lowest


def _leader(losses: ByOffset, errors: ByOffset, within: float = 1.0) -> float:
    """Return the lowest racer that is, with all in between, as good as the best within so many standard errors."""
    best = leader = _best(losses)
    for offset in sorted((offset for offset in losses if offset < best), reverse=True):
        if losses[offset] - losses[best] > within * errors[offset]:
            break
        leader = offset
    return leader


def next_racer(losses: ByOffset, errors: ByOffset, reach: int, start: float) -> float | None:
    """Return the next racer: a neighbor that the leader lacks, the upper one first; None if it has both.

    A lower racer that is not clearly worse needs a neighbor too. If the upper neighbor ended above `start`, the loss
    before training, the optimum is next to a cliff, where a parabola does not fit: one more racer goes in between.
    """
    best, leader = _best(losses), _leader(losses, errors)
    if math.isinf(losses[best]):
        return best - 1 if best - 1 >= -reach else None
    if leader % 1:
        return None
    for offset in (leader + 1, _leader(losses, errors, CLEAR) - 1):
        if offset not in losses and -reach // 2 <= offset <= reach:
            return offset
    between = best + 0.5
    return between if leader == best and between not in losses and losses.get(best + 1, start) > start else None


def lowest(losses: ByOffset, errors: ByOffset) -> float:
    """Return the offset of the minimum of a parabola through the best racer and its neighbors.

    If lower racers are as good: the offset below the lowest of them at which the loss is one standard error higher.
    """
    best, leader = _best(losses), _leader(losses, errors)
    below = max((offset for offset in losses if offset < leader), default=None)
    above = min((offset for offset in losses if offset > leader), default=None)
    if below is None or above is None or math.isinf(losses[below]):
        return leader
    if leader != best:
        far, near = (_excess(losses[offset] - losses[best], errors[offset]) for offset in (below, leader))
        return leader - (leader - below) * (1 - near) / (far - near)
    if math.isinf(losses[above]):
        return best
    left, right = below - best, above - best
    falls, rises = (losses[below] - losses[best]) / left, (losses[above] - losses[best]) / right
    bend = (rises - falls) / (right - left)
    return best + (left - falls / bend) / 2 if bend > 0 else best


def _excess(rise: float, error: float) -> float:
    """Return a difference in standard errors."""
    return rise / error if error else math.inf if rise > 0 else 0.0


class _Track:
    """The track of a race: the same weights and batches for every racer.

    Attributes:
        start: the loss before training, on the first batch; inf before the first racer.
        cost: gradients of a whole racer.
        gradients: spent so far.
    """

    def __init__(self, trainer: Trainer, job: Job, steps: int, looks: tuple[float, ...], at_end: AtEnd) -> None:
        self.trainer, self.job, self.steps, self.at_end = trainer, job, steps, at_end
        self.looks = {max(1, round(share * steps)) for share in looks}
        limit = JUDGING * steps * trainer.batch_size * 3 / len(looks)  # a forward pass is a third of a gradient
        rows = max(1, min(JUDGED, len(trainer.valid), int(limit)))
        self.size = max(min(2, rows), rows // PARTS)
        self.parts = rows // self.size
        self.look = self.size * self.parts / trainer.batch_size / 3
        self.cost = steps + len(looks) * self.look
        self.start, self.gradients = math.inf, 0.0

    def train(self, rate: float) -> Judged:
        """Train a racer and return its validation losses."""
        session = self.trainer.session(self.job)
        session.begin()
        scale_rates(session, rate)
        schedule = shortened(session.settings.schedule.in_steps(session.steps), session.steps * session.settings.epochs)
        moving = schedule.attach(session.optimizer, session.groups, self.steps, 1)
        judged: list[Tensor] = []
        with self.job.at_work("race", 0):
            for step, batch in enumerate(islice(_endless(session), self.steps)):
                moving.before(step)
                self.gradients += 1
                value = backward(session.loss_of, session.whole, batch, session.optimizer, session.scaler)
                if not math.isfinite(value):
                    return None
                if math.isinf(self.start):
                    self.start = value * session.unit
                session.step()
                if step + 1 in self.looks:
                    judged.append(self._judged(session))
            mean = torch.stack(judged).mean(0)
            if not bool(mean.isfinite().all()):
                return None
            if self.at_end is not None:
                self.at_end(rate, session)
        return mean

    def _judged(self, session: Session) -> Tensor:
        """Return the validation losses on equally large parts of the rows."""
        session.to_scored()
        session.module.eval()
        with torch.no_grad(), self.job.runtime.autocast(), evaluating(session.settings.loss):
            losses = torch.tensor([float(loss) for loss in islice(self._losses(session), self.parts)])
        session.module.train()
        session.weights.to("train")
        self.gradients += self.look
        return losses

    def _losses(self, session: Session) -> Iterator[Tensor]:
        """Yield the loss of each part; outputs are computed together if the loss is a function of them."""
        settings, whole = session.settings, session.whole
        at_once = min(self.parts, max(1, chunk_of(session.valid) // self.size)) * self.size
        for inputs, targets in session.valid.batches(at_once):
            outputs = None if settings.own_loss else whole(inputs)
            if isinstance(outputs, Tensor):
                yield from (settings.loss(*part) for part in sliced((outputs, targets), self.size))
            else:
                yield from (evaluated(settings.loss_of)(whole, part) for part in sliced((inputs, targets), self.size))


def range_test(trainer: Trainer, job: Job, steps: int = 60) -> Suggestions | None:
    """Return the rates that a range test suggests, or None if the loss explodes before there is a curve."""
    session = trainer.session(job)
    session.begin()
    batches = _endless(session)

    def step(rate: float) -> float:
        scale_rates(session, rate)
        value = backward(session.loss_of, session.whole, next(batches), session.optimizer, session.scaler)
        if math.isfinite(value):
            session.step(clipped=False)
        return value

    with job.at_work("range test", 0):
        rates, losses = sweep(step, 1e-6, 10.0, steps)
    return suggestions(rates, losses) if len(losses) >= FEWEST else None


def scale_rates(session: Session, rate: float) -> None:
    """Set the learning rate of the first parameter group that moves, and of the others in proportion."""
    first = next((float(group["lr"]) for group in session.groups if float(group["lr"])), 0.0)
    for group, options in zip(session.optimizer.param_groups, session.groups, strict=True):
        options["lr"] = rate * float(options["lr"]) / first if first else rate
        set_rate(group, options["lr"])


def _endless(session: Session) -> Iterator[Batch]:
    return chain.from_iterable(session.batches(epoch) for epoch in count(1))
