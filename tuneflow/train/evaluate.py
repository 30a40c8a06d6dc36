"""Evaluation in chunks of rows, whose size does not show in the result."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.nested import mapped, row_count
from tuneflow.runtime.precision import LOWERED
from tuneflow.train.joined_outputs import joined
from tuneflow.train.preparation import DeviceData

CHUNK = 3 * 2**18  # bytes of inputs evaluated at once, within 32 to 1,024 rows: more falls out of the cache


def outputs_of(module: nn.Module, data: DeviceData | Source) -> tuple[Any, Any]:
    """Return (outputs, targets) of all rows; outputs that a lower precision left in 16 bits come as float32."""
    outputs, targets, counts = [], [], []
    for inputs, wanted in data.batches(chunk_of(data)):
        outputs.append(module(inputs))
        targets.append(wanted)
        counts.append(row_count((inputs, wanted)))
    whole = joined(outputs, counts)
    if isinstance(data, DeviceData) and data.runtime.precision != "fp32":
        whole = mapped(lambda tensor: tensor.float() if tensor.dtype in LOWERED else tensor, whole)
    return whole, joined(targets, counts, "targets")


def in_float32(data: DeviceData | Source) -> AbstractContextManager[Any]:
    """A block without the precision of the runtime that `data` is for."""
    return data.runtime.autocast(on=False) if isinstance(data, DeviceData) else nullcontext()


def chunk_of(data: DeviceData | Source) -> int:
    """Number of rows to evaluate at once: as many as fit into the cache, from 32 to 1,024."""
    source = data.source if isinstance(data, DeviceData) else data
    per_row = source.nbytes // len(source) if isinstance(source, Data) else 2**14
    return min(1024, max(32, CHUNK // max(1, per_row)))
