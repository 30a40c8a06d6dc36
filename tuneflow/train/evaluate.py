"""Evaluation: all rows at once, as far as anyone can see."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.data import Batch, Data
from tuneflow.data.sources import Source
from tuneflow.heuristics.input_scaling import Normalizer
from tuneflow.nested import mapped
from tuneflow.runtime.precision import LOWERED
from tuneflow.runtime.runtime import Runtime

RESIDENT = 2**28  # bytes as stored: sets up to this size live on the device, prepared once
CHUNK = 3 * 2**18  # bytes of inputs evaluated at once, within 32 to 1,024 rows: more falls out of the cache


class DeviceData:
    """A source whose batches come on the device and normalized: once where it is small, else batch by batch.

    Attributes:
        runtime: which places them.
    """

    def __init__(self, source: Source, runtime: Runtime, normalizer: Normalizer | None) -> None:
        self.source, self.runtime = source, runtime
        self._normalizer = normalizer
        self._resident = isinstance(source, Data) and source.nbytes <= RESIDENT
        if isinstance(source, Data) and self._resident:
            inputs = runtime.place(source.inputs)
            self.source = Data(inputs if normalizer is None else normalizer(inputs), runtime.place(source.targets))

    def under(self, runtime: Runtime) -> "DeviceData":
        """The same tensors for a runtime of the same device and layout."""
        if runtime is self.runtime:
            return self
        made = copy.copy(self)
        made.runtime = runtime
        return made

    @property
    def resident(self) -> Data | None:
        """All rows as modules take them, where they are on the device."""
        return self.source if isinstance(self.source, Data) and self._resident else None

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """As Data.batches."""
        batches = self.source.batches(size, order)
        return batches if self._resident else self._placed(batches)

    def _placed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            inputs, targets = self.runtime.place(batch)
            yield (inputs if self._normalizer is None else self._normalizer(inputs)), targets


def outputs_of(module: nn.Module, data: DeviceData | Source) -> tuple[Any, Any]:
    """(outputs, targets) of all rows, evaluated in chunks; what the runtime's precision made of 16 bits is float32."""
    outputs, targets = [], []
    for inputs, wanted in data.batches(chunk_of(data)):
        outputs.append(module(inputs))
        targets.append(wanted)
    whole = joined(outputs)
    if isinstance(data, DeviceData) and data.runtime.precision != "fp32":
        whole = mapped(lambda tensor: tensor.float() if tensor.dtype in LOWERED else tensor, whole)
    return whole, joined(targets)


def in_float32(data: DeviceData | Source) -> AbstractContextManager[Any]:
    """A block without the precision of the runtime that `data` is for."""
    return data.runtime.autocast(on=False) if isinstance(data, DeviceData) else nullcontext()


def joined(parts: list[Any]) -> Any:
    """Batches joined along the first dimension, tuples and dicts element by element."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], Mapping):
        return {key: joined([part[key] for part in parts]) for key in parts[0]}
    return type(parts[0])(joined([part[i] for part in parts]) for i in range(len(parts[0])))


def chunk_of(data: DeviceData | Source) -> int:
    """How many rows are evaluated at once."""
    source = data.source if isinstance(data, DeviceData) else data
    per_row = source.nbytes // len(source) if isinstance(source, Data) else 2**14
    return min(1024, max(32, CHUNK // max(1, per_row)))
