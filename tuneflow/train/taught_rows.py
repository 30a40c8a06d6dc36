"""Outputs of a loss's teacher for all training rows: computed once, for every epoch and trial."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from tuneflow.data.data import Batch
from tuneflow.seeds import seeded_globals
from tuneflow.train.preparation import RESIDENT, DeviceData

CHUNK = 256  # rows that the teacher is called with at once, in their stored order: a resumed trial gets the same bits


class TaughtBatch(tuple[Any, Any]):
    """Inputs and targets of a batch, with the teacher's outputs for its rows.

    Attributes:
        taught: shape (rows, ...).
    """

    taught: Tensor


def with_taught(batches: Iterable[Batch], order: Tensor, size: int, taught: Tensor) -> Iterator[Batch]:
    """Yield batches of `size` rows in this order, each with its part of `taught`, which has all rows."""
    for batch, rows in zip(batches, torch.split(order.to(taught.device), size), strict=True):
        one = TaughtBatch(batch)
        one.taught = taught[rows]
        yield one


def taught_outputs(loss: Any, data: DeviceData, cache: dict[Any, Any]) -> Tensor | None:
    """Return the outputs of the loss's teacher for all rows, shape (n, ...), on the device.

    None where it has no teacher, where rows are loaded batch by batch, and where the outputs are not one tensor, or
    take too much memory: then each batch is taught when it is trained on.

    Args:
        loss: one with a method `taught(inputs)` and a digest `teacher`.
        data: the training rows, not normalized.
        cache: keeps them, for these rows.
    """
    if data.resident is None or not callable(getattr(loss, "taught", None)):
        return None
    key = "taught", loss.teacher, data.runtime.label, data.runtime.device
    if key not in cache:
        with seeded_globals(0, "taught"), data.runtime.autocast():  # a teacher may draw
            cache[key] = _all_outputs(loss, data)
    taught: Tensor | None = cache[key]
    return taught


def _all_outputs(loss: Any, data: DeviceData) -> Tensor | None:
    parts = []
    for inputs, _ in data.batches(CHUNK):
        outputs = loss.taught(inputs)
        if not isinstance(outputs, Tensor) or outputs.ndim == 0 or outputs[0].nbytes * len(data) > RESIDENT:
            return None
        parts.append(outputs)
    whole = torch.cat(parts)
    return whole if len(whole) == len(data) else None
