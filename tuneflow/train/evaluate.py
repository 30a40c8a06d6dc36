"""Evaluation: all rows at once, as far as anyone can see."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data import Batch, Data, Source
from tuneflow.heuristics.normalise import Normaliser
from tuneflow.runtime import Runtime

RESIDENT = 2**28  # bytes as stored: sets up to this size live on the device, prepared once
CHUNK = 3 * 2**18  # bytes of inputs evaluated at once, within 32 to 1,024 rows: more falls out of the cache


class Ready:
    """A source whose batches come on the device and normalised: once where it is small, else batch by batch."""

    def __init__(self, source: Source, runtime: Runtime, normaliser: Normaliser | None) -> None:
        self.source = source
        self._runtime: Runtime | None = runtime
        self._normaliser = normaliser
        if isinstance(source, Data) and source.nbytes <= RESIDENT:
            inputs = runtime.place(source.inputs)
            self.source = Data(inputs if normaliser is None else normaliser(inputs), runtime.place(source.targets))
            self._runtime = None

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """As Data.batches."""
        batches = self.source.batches(size, order)
        return batches if self._runtime is None else self._placed(batches, self._runtime)

    def _placed(self, batches: Iterable[Batch], runtime: Runtime) -> Iterator[Batch]:
        for batch in batches:
            inputs, targets = runtime.place(batch)
            yield (inputs if self._normaliser is None else self._normaliser(inputs)), targets


def outputs_of(module: nn.Module, data: Ready | Source) -> tuple[Any, Any]:
    """(outputs, targets) of all rows, evaluated in chunks."""
    outputs, targets = [], []
    for inputs, wanted in data.batches(chunk_of(data)):
        outputs.append(module(inputs))
        targets.append(wanted)
    return joined(outputs), joined(targets)


def joined(parts: list[Any]) -> Any:
    """Batches joined along the first dimension, tuples and dicts element by element."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], Mapping):
        return {key: joined([part[key] for part in parts]) for key in parts[0]}
    return type(parts[0])(joined([part[i] for part in parts]) for i in range(len(parts[0])))


def chunk_of(data: Ready | Source) -> int:
    """How many rows are evaluated at once."""
    source = data.source if isinstance(data, Ready) else data
    per_row = source.nbytes // len(source) if isinstance(source, Data) else 2**14
    return min(1024, max(32, CHUNK // max(1, per_row)))
