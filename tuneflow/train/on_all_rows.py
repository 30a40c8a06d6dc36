"""Training on all rows: the final model of a cross-validation, after its folds have shown for how many epochs."""

import time
from collections.abc import Mapping

from tuneflow.metrics.measured import Measured
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Curve, Epochs, TrainerProtocol
from tuneflow.train.session import Session


class OnAllRows(TrainerProtocol):
    """Trains jobs without a fold on all rows of a trainer with folds.

    Args:
        trainer: the trainer of one seed and fold.
        curve: metrics of the folds by epoch, which a learning-rate schedule that watches one goes by.
    """

    def __init__(self, trainer: TrainerProtocol, curve: Curve) -> None:
        self.trainer, self.curve = trainer, curve
        self.epochs = trainer.epochs

    @property
    def sparse(self) -> Mapping[str, int]:
        return self.trainer.sparse

    def init(self, job: Job) -> TrainState:
        return self.trainer.init(job)

    def smaller(self, job: Job) -> Job | None:
        return self.trainer.smaller(job)

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        return self.trainer.retrain(job, state, until, self.curve)


def train_unscored(run: Session, first: int, until: int, curve: Curve) -> Epochs:
    """Train epochs `first` to `until`; there are no rows to score them on, so each has its metrics in `curve`.

    Args:
        run: at the state before.
        first: the first epoch to train, counted from 1.
        until: the last one.
        curve: metrics by epoch.
    """
    for epoch in range(first, until + 1):
        started = time.perf_counter()
        with run.job.at_work("epoch", epoch):
            train_loss = run.train_epoch(epoch)
        scores = {name: Measured(value) for name, value in curve[epoch].items()}
        yield run.after_epoch(epoch, train_loss, scores, time.perf_counter() - started)
    return ""
