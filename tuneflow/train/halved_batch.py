"""The job of a Trainer in less memory: micro-batches of half as many rows."""

from dataclasses import replace
from typing import Any

from tuneflow.train.job import Job
from tuneflow.train.micro_batch import layers_across_rows


def halved(trainer: Any, job: Job) -> Job | None:
    """Return the job with micro-batches of half as many rows; None where that changes more than the rounding.

    Layers that draw, as dropout does, draw the same distribution, but not the same numbers.

    Args:
        trainer: a tn.Trainer, configured for the job.
        job: what is trained.
    """
    rows = min(trainer.batch_size, trainer.micro_batch or trainer.batch_size, trainer.training_rows)
    if rows == 1 or trainer.alone() or "micro_batch" not in trainer.tunable or _computes_across_rows(job):
        return None
    section = {**job.config.get("trainer", {}), "micro_batch": -(-rows // 2)}
    return replace(job, config={**job.config, "trainer": section})


def _computes_across_rows(job: Job) -> bool:
    """True if a layer sees the rows of a part and not those of the whole batch; built anew, on the CPU."""
    if job.model is None:
        return False
    with job.at_work("init", 0):
        return bool(layers_across_rows(job.model.build(job.config)))
