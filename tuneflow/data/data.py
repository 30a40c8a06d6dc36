"""Data: inputs and targets as tensors, sliced by rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset, default_collate

from tuneflow.data.collate import Collate
from tuneflow.data.conversion import as_tensors, check_no_rows, is_list_of_arrays, is_list_of_rows
from tuneflow.data.loaded import loads_rows, source_of
from tuneflow.data.orders import Order, Shuffled
from tuneflow.data.pairs import Batch as Batch
from tuneflow.data.pairs import pair_of
from tuneflow.data.row_numbers import as_index, check_no_number, random_parts
from tuneflow.data.tables import is_table, without
from tuneflow.errors import listed
from tuneflow.nested import leaves, mapped, paths, row_count, rows_taken

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32)
BLOCK = 64 * 2**20  # bytes gathered at once when the order is shuffled


class Data:
    """Inputs and targets, row by row.

    Args:
        inputs: tensor or array, shape (n, ...), or a tuple, list or dict of them. Floating-point arrays become
            torch's default dtype; integers and booleans stay as they are. A DataFrame becomes a matrix of its columns.
        targets: the same, with the same n; integers become int64. Or the name of the part of `inputs` that they are: a
            key of a dict, a column of a DataFrame or a list of columns, an index into a tuple. A Dataset or DataLoader
            as `inputs`, with the targets' name or index, becomes a source that loads its rows when they are used. A
            forward that has a parameter of the name of a dict's targets gets them too; any other does not.

    Attributes:
        target: the entry of `inputs` that holds the targets too; empty for none.
        columns: the names of the columns of a DataFrame; empty for other inputs.

    Raises:
        ValueError: there are no rows, or inputs and targets differ in number.
        TypeError: an array does not hold numbers, row by row.

    Example:
        >>> data = Data(np.zeros((5, 3)), [0, 1, 0, 1, 0])
        >>> len(data), data.inputs.dtype, data[1:3].targets
        (5, torch.float32, tensor([1, 0]))
    """

    def __new__(cls, inputs: Any = None, targets: Any = None) -> Any:
        """Make a Data; of a Dataset or DataLoader with named targets, a source that loads its rows."""
        if (
            cls is Data
            and isinstance(targets, str | int)
            and loads_rows(inputs)
            and not isinstance(inputs, TensorDataset)
        ):
            return source_of(inputs, targets)
        return super().__new__(cls)

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.target = ""
        if _are_names(targets, inputs):
            inputs, targets, self.target = _taken_out(inputs, targets)
        self.columns = tuple(map(str, inputs.columns)) if is_table(inputs) else ()
        self.inputs = as_tensors(inputs, "inputs")
        self.targets = mapped(lambda t: t.long() if t.dtype in _INTEGERS else t, as_tensors(targets, "targets"))
        self._check_rows(inputs, targets)
        if self.target:
            self.inputs[self.target] = self.targets

    def _check_rows(self, inputs: Any, targets: Any) -> None:
        counts = [{len(t) for t in leaves(part)} for part in (self.inputs, self.targets)]
        check_no_rows(inputs, set() if is_list_of_arrays(targets) else counts[1], "inputs")
        check_no_rows(targets, set() if is_list_of_arrays(inputs) else counts[0], "targets")
        rows = {count for part in counts for count in part}
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
        named = bool(self.target)
        inputs = {key: part for key, part in self.inputs.items() if key != self.target} if named else self.inputs
        return f"Data({_shape(inputs)} -> {_shape(self.targets)})"

    def __getitem__(self, rows: Any) -> Data:
        """Return some rows as a Data: a slice, a sequence of row numbers, or a boolean mask."""
        check_no_number(rows)
        taken = itemgetter(rows if isinstance(rows, slice) else as_index(rows))
        part = Data(*mapped(taken, (self.inputs, self.targets)))
        part.target, part.columns = self.target, self.columns
        return part

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
        return [self[rows] for rows in random_parts(len(self), shares, seed)]

    @property
    def order(self) -> Order:
        """The rows of a training epoch: every row once."""
        return Shuffled(len(self))

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
        """Return a short hash of every value, dtype, shape and name."""
        sha = hashlib.sha256()
        for path, tensor in paths((self.inputs, self.targets)).items():
            names = "".join(f"{key}." for key in path if isinstance(key, str))
            sha.update(f"{names}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
        return sha.hexdigest()[:16]


def _taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return these rows of `tensor`; unlike torch's index_select, images keep their layout."""
    by_pixel = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if not by_pixel or tensor.is_contiguous():
        return tensor.index_select(0, rows)
    return tensor.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)


def _are_names(targets: Any, inputs: Any) -> bool:
    """True for the name of a part of the inputs: a string or an index; of a table also a list of names."""
    several = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
    return isinstance(targets, str | int) or (several and is_table(inputs))


def _taken_out(inputs: Any, names: Any) -> tuple[Any, Any, str]:
    """Return inputs, targets and the entry of the inputs that holds these too, where they were named.

    Raises:
        TypeError, ValueError: the inputs have no names, or none like these.
    """
    if is_table(inputs):
        return *without(inputs, names), ""
    if is_list_of_rows(inputs):
        inputs = Collate(default_collate, "Data")(inputs)
    elif isinstance(inputs, TensorDataset):
        inputs = inputs.tensors
    elif not isinstance(inputs, Mapping | tuple):
        once = "; read it once: list(rows)" if isinstance(inputs, Iterable) and not hasattr(inputs, "__len__") else ""
        raise TypeError(
            f"Data: targets={names!r} names a part of a DataFrame, a dict, a tuple, a list of rows, a Dataset or a"
            f" DataLoader, got inputs of type {type(inputs).__name__}{once}."
        )
    parts, targets = pair_of(inputs, names, "Data")
    return parts, targets, names if isinstance(names, str) else ""


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
