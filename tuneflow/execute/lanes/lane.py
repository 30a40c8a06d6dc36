"""Lane: one slice on its way through a stack of trials: its run, its place in the data, its randomness."""

import math
from collections.abc import Iterator

from torch import Tensor

from tuneflow.data.data import Batch
from tuneflow.errors import Diverged
from tuneflow.history.trial import Report, Slice
from tuneflow.metrics import Measured
from tuneflow.train.job import Job, TrainState
from tuneflow.train.rates import Fixed
from tuneflow.train.trainer import Trainer


class Lane:
    """A trial that takes its steps among others.

    Attributes:
        run: its live objects; while it is in a stack, its tensors are older than the stack's.
        state: what was last reported, or where it began.
        epoch: the one under way; `step`: how many of its batches are behind it.
        rows: of the next batch; 0 when the epoch has no more.
        steady: whether no schedule changes the optimizer's groups from step to step.
        seconds: its share of what the epoch has taken so far.
    """

    def __init__(self, work: Slice, trainer: Trainer, job: Job, state: TrainState | None) -> None:
        self.work, self.trainer, self.job = work, trainer, job
        self.run = trainer.configured(job.config).session(job)
        if state is None:
            self.run.begin()
            state = self.run.state(0)
        else:
            self.run.restore(state)
        self.state = state
        self._count, self._size = len(self.run.train), self.run.settings.batch_size
        self.steady = isinstance(self.run.settings.schedule, Fixed)
        self.randomness = job.randomness("epoch", state.epoch + 1)
        self.epoch = self.step = self.rows = 0
        self.seconds = self._total = 0.0
        self._last: float | None = None
        self._order: Tensor | None = None
        self._batches: Iterator[Batch] | None = None
        self._begin()

    def again(self) -> "Lane":
        """Anew from what was last reported."""
        return Lane(self.left, self.trainer, self.job, self.state)

    @property
    def left(self) -> Slice:
        """What is left of the slice."""
        return Slice(self.work.trial, self.state.epoch, self.work.until)

    @property
    def steps_left(self) -> int:
        """Optimizer steps to the end of the slice."""
        return (self.work.until - self.state.epoch) * self.run.steps - self.step

    @property
    def over(self) -> str | None:
        """Why nothing more is to be trained: empty at the slice's end, else the trainer's reason; None: go on."""
        return "" if self.state.epoch >= self.work.until else self.run.waiting.over or None

    def order(self) -> Tensor:
        """Numbers of the next batch's rows: int64, (rows,)."""
        if self._order is None:
            self._order = self.job.order(self.epoch, self._count)
        start = self.step * self._size
        return self._order[start : start + self.rows]

    def batch(self) -> Batch:
        """The next batch, loaded and augmented as in training alone."""
        with self.randomness:
            if self._batches is None:
                self._batches = self.run.batches(self.epoch)
            return next(self._batches)

    def before_step(self) -> None:
        """Have the schedule set the optimizer's groups."""
        self.run.rate.before((self.epoch - 1) * self.run.steps + self.step)

    def after_step(self, loss: float) -> None:
        """Take in the loss of the step that was taken.

        Raises:
            Diverged: it is not finite.
        """
        value = loss * self.run.unit
        if not math.isfinite(value):
            raise Diverged(self.epoch, self.step + 1, self._last)
        self.run.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch's schedulers ask; it was in the stack
        self.run.rate.after_step()
        self._total += value * self.rows
        self._last = value
        self.step += 1
        self.rows = min(self._size, self._count - self.step * self._size) if self.step < self.run.steps else 0

    def evaluate(self) -> dict[str, Measured]:
        """Loss and metrics as in training alone, of the run's tensors."""
        with self.randomness:
            return self.run.evaluate()

    def after_epoch(self, measured: dict[str, Measured]) -> Report:
        """Report the epoch, and stand before the next; the run's tensors need to be those behind it.

        Raises:
            Diverged: the validation loss is not finite.
        """
        mean = self._total / self._count
        self.state, report = self.run.after_epoch(self.epoch, mean, measured, self.seconds)
        self._begin()
        return report

    def _begin(self) -> None:
        self.epoch, self.step, self.seconds = self.state.epoch + 1, 0, 0.0
        self.rows = min(self._size, self._count)
        self._total, self._last, self._order, self._batches = 0.0, None, None, None
        self.randomness.restart(*self.job.key, "epoch", self.epoch)
