"""Data: inputs and targets as tensors, sliced by rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneflow.errors import listed
from tuneflow.nested import leaves, mapped, row_count, rows_taken
from tuneflow.seeds import torch_stream

Batch = tuple[Any, Any]  # (inputs, targets)
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32)
BLOCK = 64 * 2**20  # bytes gathered at once when the order is shuffled


class Data:
    """Inputs and targets, row by row.

    Args:
        inputs: tensor or array, shape (n, ...), or a tuple, list or dict of them. Floating-point arrays become
            torch's default dtype; integers and booleans stay as they are.
        targets: the same, with the same n. Integers become int64.

    Attributes:
        target: the entry of `inputs` that holds the targets too; empty for none.

    Raises:
        ValueError: there are no rows, or inputs and targets differ in number.
        TypeError: an array does not hold numbers.

    Example:
        >>> data = Data(np.zeros((5, 3)), [0, 1, 0, 1, 0])
        >>> len(data), data.inputs.dtype, data[1:3].targets
        (5, torch.float32, tensor([1, 0]))
    """

    target = ""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs = _tensors(inputs, "inputs")
        self.targets = mapped(lambda t: t.long() if t.dtype in _INTEGERS else t, _tensors(targets, "targets"))
        rows = {len(t) for t in leaves((self.inputs, self.targets))}
        if len(rows) != 1:
            raise ValueError(
                "Data: inputs and targets need the same number of rows,"
                f" got {_rows(self.inputs)} and {_rows(self.targets)}."
            )
        if rows == {0}:
            raise ValueError("Data: needs at least one row, got 0.")

    def __len__(self) -> int:
        return len(leaves(self.targets)[0])

    def __repr__(self) -> str:
        return f"Data({_shape(self.inputs)} -> {_shape(self.targets)})"

    def __getitem__(self, rows: Any) -> Data:
        """Return some rows as a Data: a slice, a sequence of row numbers, or a boolean mask."""
        if isinstance(rows, int | np.integer):
            raise TypeError(
                f"Data: rows are taken with a slice or a list, got {rows}; data[{rows}:{rows + 1}] is one row."
            )
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
            rows = rows.long() if rows.numel() == 0 else rows
        return Data(*mapped(itemgetter(rows), (self.inputs, self.targets)))

    def split(self, *shares: float, seed: int = 0) -> list[Data]:
        """Split into random parts without overlap, with these shares of the rows, rounded.

        Args:
            shares: each above 0; together at most 1. Where they add up to less, the rest of the rows is in no part.
            seed: of the random order.

        Raises:
            ValueError: a share is not above 0, they add up to more than 1, or a part would be empty.

        Example:
            >>> train, valid = Data(torch.zeros(10, 2), torch.zeros(10)).split(0.8, 0.2)
            >>> len(train), len(valid)
            (8, 2)
        """
        if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(f"Data.split: shares need to be above 0 and add up to at most 1, got {shares}.")
        order = torch.randperm(len(self), generator=torch_stream(seed, "split"))
        ends = [round(sum(shares[: i + 1]) * len(self)) for i in range(len(shares))]
        return [self[order[start:end]] for start, end in zip([0, *ends], ends, strict=False)]

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches of `size` rows, the last one shorter where `size` does not divide the rows.

        Args:
            size: rows per batch.
            order: row numbers, int64, shape (m,); None for the stored order.
        """
        if order is None:
            yield from sliced((self.inputs, self.targets), size)
            return
        order = order.to(leaves(self.targets)[0].device)
        block = max(1, BLOCK // max(1, self.nbytes // len(self)) // size) * size
        for rows in torch.split(order, block):
            gathered = mapped(partial(_taken, rows=rows), (self.inputs, self.targets))
            yield from sliced(gathered, size)

    @property
    def single(self) -> bool:
        """True if the inputs are one tensor."""
        return isinstance(self.inputs, Tensor)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in leaves((self.inputs, self.targets)))

    def digest(self) -> str:
        """Return a short hash of every value, dtype and shape."""
        sha = hashlib.sha256()
        for tensor in leaves((self.inputs, self.targets)):
            sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
        return sha.hexdigest()[:16]


def _taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return these rows of `tensor`; unlike torch's index_select, images keep their layout."""
    by_pixel = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if not by_pixel or tensor.is_contiguous():
        return tensor.index_select(0, rows)
    return tensor.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


def _tensors(values: Any, what: str) -> Any:
    """Convert arrays and lists to tensors, floats to torch's default dtype; tuples and dicts element by element."""
    if isinstance(values, dict):
        return {key: _tensors(value, what) for key, value in values.items()}
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(_tensors(value, what) for value in values))
    if isinstance(values, tuple) or (
        isinstance(values, list) and values and isinstance(values[0], Tensor | np.ndarray)
    ):
        return type(values)(_tensors(value, what) for value in values)
    tensor = values if isinstance(values, Tensor) else _from_array(values, what)
    if tensor.ndim == 0:
        raise ValueError(f"Data: {what} need rows, got a single number, shape (); give a list of them.")
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _from_array(values: Any, what: str) -> Tensor:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"Data: {what} need rows of the same length, got lists of unequal ones; pad them.") from None
    try:
        return torch.as_tensor(array)
    except TypeError:
        raise TypeError(
            f"Data: {what} need to be numbers, got an array of {array.dtype}; number classes from 0, as"
            " np.unique(values, return_inverse=True)[1] does."
        ) from None


def sliced(batch: Batch, size: int) -> Iterator[Batch]:
    """Yield `batch` in parts of `size` rows, the last one shorter; views, not copies."""
    inputs, targets = batch
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor):
        yield from zip(torch.split(inputs, size), torch.split(targets, size), strict=True)
        return
    count = row_count(batch)
    for start in range(0, count, size):
        rows = slice(start, start + size)
        yield rows_taken(inputs, rows, count), rows_taken(targets, rows, count)


def _rows(batch: Any) -> str:
    return listed(str(len(t)) for t in leaves(batch))


def _shape(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"{tuple(batch.shape)} {str(batch.dtype).removeprefix('torch.')}"
    return str(mapped(lambda t: tuple(t.shape), batch))
