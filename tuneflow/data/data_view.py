"""DataView: some rows of a Data by their numbers, without a copy of them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tuneflow.data.data import Batch, Data
from tuneflow.nested import mapped


class DataView(Data):
    """Rows of another Data; batches are gathered from it, and only `inputs` and `targets` copy all of the rows.

    Args:
        data: holds the rows.
        rows: row numbers, int64, shape (n,).
    """

    def __init__(self, data: Data, rows: Tensor) -> None:
        self._data, self._rows, self.target = data, rows, data.target

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Data:
        return self._data[self._rows[rows if isinstance(rows, slice) else torch.as_tensor(rows)]]

    @property
    def inputs(self) -> Any:
        return self._taken(self._data.inputs)

    @property
    def targets(self) -> Any:
        return self._taken(self._data.targets)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches of `size` rows, as Data.batches does."""
        return self._data.batches(size, self._rows if order is None else self._rows[order.to(self._rows.device)])

    @property
    def single(self) -> bool:
        return self._data.single

    @property
    def nbytes(self) -> int:
        return self._data.nbytes * len(self) // len(self._data)

    def _taken(self, values: Any) -> Any:
        return mapped(lambda tensor: tensor[self._rows.to(tensor.device)], values)
