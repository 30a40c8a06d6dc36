"""Metrics that are taken once for each structure, tried on a few rows before trial 0."""

from tuneflow.data.sources import Source
from tuneflow.train.module_metrics import of_structure, reference_of, take_all
from tuneflow.train.session import Session
from tuneflow.train.trainer import Trainer


def check_structure_metrics(trainer: Trainer, run: Session, valid: Source) -> None:
    """Raise what a metric of the module raises, with the metric's name.

    Args:
        trainer: has the metrics, as brief as they can be.
        run: its module is measured; not used for anything else.
        valid: validation rows.
    """
    metrics = of_structure(trainer.metrics)
    if metrics:
        run.to_scored()
        take_all(run.job, metrics, run.handed_over(), valid, reference_of(run.job))
