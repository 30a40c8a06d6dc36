"""Scores on every fold: a metric may not be defined on the validation rows of some, as AUC is not on one class."""

import math
from contextlib import suppress

from tuneflow.check.samples import few
from tuneflow.data.sources import Source
from tuneflow.errors import ending_where, warn
from tuneflow.metrics.measured import Measured
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

SCORED = 256  # rows of a fold that are tried first


def check_fold_scores(trainer: Trainer, job: Job, small: Trainer) -> None:
    """Raise unless a new module can be scored on every fold; warn of a metric that is NaN there.

    Args:
        trainer: with folds.
        job: a configuration.
        small: the trainer of one fold and of few rows.

    Raises:
        ValueError: a metric fails, on all validation rows of the fold as on some of them.
    """
    if trainer.fold_rows is None:
        return
    for number in range(trainer.folds):
        _, valid = trainer.fold_rows.parts(number)
        try:
            scores = _scores(small, job, valid)
        except Exception as error:
            message = (
                f"Trainer: folds: fold {number} cannot be scored: {type(error).__name__}: {error}; its validation rows"
                " need to be such that every metric is defined on them."
            )
            raise ending_where(error, ValueError(message)) from None
        for name, score in scores.items():
            if math.isnan(score.value):
                warn(
                    f'Trainer: folds: metric "{name}" is nan on fold {number}, and so is its mean over the folds; its'
                    " validation rows need to be such that every metric is defined on them."
                )


def _scores(small: Trainer, job: Job, valid: Source) -> dict[str, Measured]:
    with suppress(Exception):  # once more on all rows: a metric may need them
        scores = _evaluated(small, job, few(valid, SCORED))
        if not any(math.isnan(score.value) for score in scores.values()):
            return scores
    return _evaluated(small, job, valid)


def _evaluated(small: Trainer, job: Job, valid: Source) -> dict[str, Measured]:
    small.valid, small._prepared = valid, {}
    return small.configured(job.config).session(job).evaluate()
