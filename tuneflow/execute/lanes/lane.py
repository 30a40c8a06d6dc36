"""Lane: a slice that is trained in a stack, with its session, its position in the data and its randomness."""

import math
from collections.abc import Iterator

from torch import Tensor

from tuneflow.data.data import Batch
from tuneflow.errors import Diverged
from tuneflow.history.trial import Report, Slice
from tuneflow.metrics.measured import Measured
from tuneflow.train.job import Job, TrainState
from tuneflow.train.rates import Fixed
from tuneflow.train.trainer import Trainer


class Lane:
    """A trial that takes its steps together with others.

    Args:
        work: the slice.
        trainer: as configured by the user.
        job: what is trained.
        state: where to start; None for a new trial.

    Attributes:
        run: its live objects; while it is in a stack, their tensors are out of date.
        state: the last reported state, or the first.
        epoch, step: the epoch under way, and the number of batches done in it.
        rows: number of rows in the next batch; 0 at the end of the epoch.
        steady: True if no schedule changes the optimizer's settings from step to step.
        seconds: its share of the epoch's wall-clock time so far.
    """

    def __init__(self, work: Slice, trainer: Trainer, job: Job, state: TrainState | None) -> None:
        self.work, self.trainer, self.job = work, trainer, job
        if state is None:
            self.run = trainer.configured(job.config).session(job)
            self.run.begin()
            state = self.run.state(0)
        else:
            self.run = trainer.resumed(job, state)
        self.state = state
        self._count, self._size = self.run.train.order.rows, self.run.settings.batch_size
        self.steady = isinstance(self.run.settings.schedule, Fixed)
        self.randomness = job.randomness("epoch", state.epoch + 1)
        self.epoch = self.step = self.rows = 0
        self.seconds = self._total = 0.0
        self._last: float | None = None
        self._order: Tensor | None = None
        self._batches: Iterator[Batch] | None = None
        self._begin()

    def again(self) -> "Lane":
        """Return a new lane that starts from the last report."""
        return Lane(self.left, self.trainer, self.job, self.state)

    @property
    def left(self) -> Slice:
        """The rest of the slice."""
        return Slice(self.work.trial, self.state.epoch, self.work.until)

    @property
    def steps_left(self) -> int:
        """Optimizer steps to the end of the slice."""
        return (self.work.until - self.state.epoch) * self.run.steps - self.step

    @property
    def over(self) -> str | None:
        """The reason to end: empty at the slice's end, else the trainer's; None while there is more to train."""
        return "" if self.state.epoch >= self.work.until else self.run.waiting.over or None

    def order(self) -> Tensor:
        """Row numbers of the next batch: int64, shape (rows,)."""
        if self._order is None:
            self._order = self.job.order(self.epoch, self.run.train.order)
        start = self.step * self._size
        return self._order[start : start + self.rows]

    def batch(self) -> Batch:
        """The next batch, loaded and augmented as in training alone."""
        with self.randomness:
            if self._batches is None:
                self._batches = self.run.batches(self.epoch)
            return next(self._batches)

    def before_step(self) -> None:
        """Apply the learning-rate schedule to the optimizer."""
        self.run.rate.before((self.epoch - 1) * self.run.steps + self.step)

    def after_step(self, loss: float) -> None:
        """Record the loss of a step.

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
        """Evaluate the run's tensors: loss and metrics, as in training alone."""
        with self.randomness:
            return self.run.evaluate(self.epoch)

    def of_module(self) -> dict[str, Measured]:
        """Return the metrics of the module that the epoch's report has, as in training alone."""
        return self.run.of_module(self.epoch)

    def after_epoch(self, measured: dict[str, Measured]) -> Report:
        """Report the epoch and prepare for the next; the run's tensors must be up to date."""
        mean = self._total / self._count
        self.state, report = self.run.after_epoch(self.epoch, mean, measured, self.seconds)
        self._begin()
        return report

    def _begin(self) -> None:
        self.epoch, self.step, self.seconds = self.state.epoch + 1, 0, 0.0
        self.rows = min(self._size, self._count)
        self._total, self._last, self._order, self._batches = 0.0, None, None, None
        self.randomness.restart(*self.job.key, "epoch", self.epoch)
