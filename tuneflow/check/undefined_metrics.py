"""Metrics that are not defined on the validation rows whatever a module returns, as AUC is not on one class."""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from tuneflow.data.data import Data
from tuneflow.errors import warn
from tuneflow.metrics.adapters import Metric
from tuneflow.metrics.classes import accuracy
from tuneflow.metrics.measured import measure
from tuneflow.nested import leaves
from tuneflow.train.joined_outputs import can_be_taken, outputs_taken
from tuneflow.train.random_outputs import drawn_comparisons, is_random
from tuneflow.train.running_measures import Chunk
from tuneflow.train.session import Session
from tuneflow.train.trainer import Trainer

DRAWN = 2**25  # bytes of outputs, beyond which nothing is tried


def warn_of_undefined(trainer: Trainer, session: Callable[[], Session]) -> None:
    """Warn of every metric that is NaN on all validation rows for random outputs of the module's shape.

    Args:
        trainer: only a validation part that is a Data is looked at.
        session: makes one of few rows.
    """
    valid, of_outputs = trainer.valid, trainer.measures.metrics
    metrics = {name: metric for name, metric in of_outputs.items() if metric is not accuracy}
    if not metrics or not isinstance(valid, Data) or trainer.own_evaluation:
        return
    chunks = _drawn(session(), valid)
    for name, metric in metrics.items():
        if chunks and all(_is_nan(metric, chunk) for chunk in chunks):
            warn(
                f'Trainer: metric "{name}" is nan on the {len(valid)} validation rows whatever the outputs are'
                f"{_one_class(valid.targets)}; no trial has a score by it, so give validation rows on which it is"
                " defined."
            )


def _drawn(run: Session, valid: Data) -> list[Chunk]:
    """Return the validation rows with random outputs, twice; nothing where these cannot be drawn."""
    with suppress(Exception), run.evaluating(), run.job.at_work("check", 1):
        outputs = run.whole(next(iter(run.valid.batches(2)))[0])
        rows = min(2, len(run.valid))
        size = sum(tensor.nbytes for tensor in leaves(outputs)) // rows
        if is_random(outputs) and can_be_taken(outputs, rows) and size * len(valid) <= DRAWN:
            shaped = outputs_taken(outputs, torch.zeros(len(valid), dtype=torch.int64), rows)
            chunk = Chunk(None, valid.targets, shaped, len(valid))
            return [comparison.whole for comparison in islice(drawn_comparisons(chunk), 2)]
    return []


def _is_nan(metric: Metric, chunk: Chunk) -> bool:
    with suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return math.isnan(measure(metric(chunk.outputs, chunk.targets), chunk.rows).value)
    return False


def _one_class(targets: Any) -> str:
    if isinstance(targets, Tensor) and targets.numel() and bool((targets == targets.flatten()[0]).all()):
        return f": all are of class {targets.flatten()[0].item():g}"
    return ""
