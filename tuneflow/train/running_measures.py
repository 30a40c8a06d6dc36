"""Running measures: a loss or metric over all rows, computed chunk by chunk."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tuneflow.metrics.adapters import Accumulated
from tuneflow.metrics.measured import Measured, mean_of, measure, ratio_of, vector_of


class Chunk(NamedTuple):
    """Some rows, and what the module gives for them.

    Attributes:
        inputs: as the module takes them.
        targets: of the same rows.
        outputs: the module's; None where nothing needs them.
        rows: number of rows.
    """

    inputs: Any
    targets: Any
    outputs: Any
    rows: int


Function = Callable[[Any, Any], Any]  # (outputs, targets) -> number or numbers


class RunningMeasure(ABC):
    """A loss or metric of the chunks so far."""

    @abstractmethod
    def add(self, chunk: Chunk) -> None:
        """Take note of a chunk."""

    @abstractmethod
    def measured(self) -> Measured:
        """Return the value over all chunks."""


class Column:
    """One number for each row, in memory that is taken once: small pieces between large outputs would scatter it.

    Args:
        total: number of rows, at most.
    """

    def __init__(self, total: int) -> None:
        self._total, self._filled = total, 0
        self._values: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Append the numbers of a chunk, shape (rows,)."""
        if self._values is None:
            dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
            self._values = torch.empty(self._total, dtype=dtype, device=values.device)
        self._values[self._filled : self._filled + len(values)] = values.detach()
        self._filled += len(values)

    @property
    def values(self) -> Tensor:
        """The numbers so far."""
        assert self._values is not None
        return self._values[: self._filled]


class RunningRows(RunningMeasure):
    """A metric that returns one number for each row.

    Args:
        metric: of (outputs, targets).
        total: number of rows, at most.
    """

    def __init__(self, metric: Function, total: int) -> None:
        self._metric, self._each = metric, Column(total)

    def add(self, chunk: Chunk) -> None:
        self.add_rows(rows_of_result(self._metric(chunk.outputs, chunk.targets), chunk.rows))

    def add_rows(self, each: Tensor) -> None:
        """Take note of the numbers of a chunk's rows, shape (rows,)."""
        self._each.add(each)

    def measured(self) -> Measured:
        return mean_of(self._each.values)


class RunningRatio(RunningMeasure):
    """A loss that is a sum over rows, divided by a sum over rows: of elements, counted targets or class weights.

    Args:
        per_row: returns both of a chunk: two tensors of shape (rows,).
        total: number of rows, at most.
    """

    def __init__(self, per_row: Callable[[Any, Any, int], tuple[Tensor, Tensor]], total: int) -> None:
        self._per_row = per_row
        self._sums, self._divisors = Column(total), Column(total)

    def add(self, chunk: Chunk) -> None:
        self.add_rows(*self._per_row(chunk.outputs, chunk.targets, chunk.rows))

    def add_rows(self, sums: Tensor, divisors: Tensor) -> None:
        """Take note of the sums and divisors of a chunk's rows, each of shape (rows,)."""
        self._sums.add(sums)
        self._divisors.add(divisors)

    def measured(self) -> Measured:
        return ratio_of(self._sums.values, self._divisors.values)


class RunningMean(RunningMeasure):
    """A single number of each chunk, averaged with weights.

    Its standard error comes from the differences between chunks, where there are enough of them.

    Args:
        value: returns the number of a chunk.
        weight: returns the weight of a chunk.
        summed: the numbers are added up, and the weights only tell how large the chunks are.
    """

    FEWEST = 20  # chunks that tell how much they differ

    def __init__(
        self, value: Callable[[Chunk], Any], weight: Callable[[Chunk], float | Tensor], summed: bool = False
    ) -> None:
        self._value, self._weight, self._summed = value, weight, summed
        self._values, self._weights = list[Any](), list[Any]()

    def add(self, chunk: Chunk) -> None:
        self.add_value(self._value(chunk), self._weight(chunk))

    def add_value(self, value: Any, weight: float | Tensor) -> None:
        """Take note of the number of a chunk and of its weight."""
        self._values.append(_plain(value))
        self._weights.append(_plain(weight))

    @property
    def count(self) -> int:
        """Number of chunks."""
        return len(self._values)

    def measured(self) -> Measured:
        values, weights = numbers_of_chunks(self._values), numbers_of_chunks(self._weights)
        sums = values if self._summed else torch.where(weights > 0, values * weights, 0.0)
        mean = ratio_of(sums, weights)
        factor = float(weights.sum()) if self._summed else 1.0
        error = mean.error * factor if len(values) >= self.FEWEST else float("nan")
        return Measured(mean.value * factor, error)


class RunningUpdates(RunningMeasure):
    """A metric object that is updated chunk by chunk."""

    def __init__(self, metric: Accumulated) -> None:
        self._metric = metric
        self._fresh: Any = None

    def add(self, chunk: Chunk) -> None:
        if self._fresh is None:
            self._fresh = self._metric.fresh(chunk.outputs)
        self._fresh.update(chunk.outputs, chunk.targets)

    def measured(self) -> Measured:
        return measure(self._metric.result_of(self._fresh))


def _plain(value: Any) -> Any:
    """Return a number of the CPU as a float; one on another device as it is, which need not be waited for."""
    return value.detach() if isinstance(value, Tensor) and value.device.type != "cpu" else float(value)


def rows_of_result(result: Any, rows: int) -> Tensor:
    """Return what a metric returned for `rows` rows as a tensor of shape (rows,).

    Raises:
        TypeError: it is something else.
    """
    if rows == 1:
        return torch.as_tensor(float(result)).reshape(1)
    vector = vector_of(result)
    if vector is None or len(vector) != rows:
        shape = tuple(getattr(result, "shape", ()))
        raise TypeError(f"returned one number per example before, and now {type(result).__name__}{shape}")
    return vector


def numbers_of_chunks(values: list[Any]) -> Tensor:
    """Return numbers, tensors of one element among them, as one float64 tensor on the CPU."""
    if all(isinstance(value, Tensor) for value in values):
        return torch.stack([value.reshape(()) for value in values]).cpu().double()
    return torch.tensor([float(value) for value in values], dtype=torch.float64)
