"""Folds: the rows that each part of a cross-validation trains on, and those that it is scored on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from tuneflow.data.data import Data
from tuneflow.data.data_view import DataView
from tuneflow.data.sources import Source
from tuneflow.errors import plural
from tuneflow.seeds import torch_stream
from tuneflow.validate import is_whole

Pair = tuple[Tensor, Tensor]  # row numbers for training and for validation, int64


@dataclass(frozen=True, eq=False)
class Folds:
    """The folds of a source.

    Attributes:
        source: all rows.
        pairs: training and validation rows of each fold.
    """

    source: Source
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def parts(self, number: int) -> tuple[Source, Source]:
        """Return the training and the validation part of a fold, neither of them a copy."""
        if not 0 <= number < len(self):
            raise ValueError(f"there are folds 0 to {len(self) - 1}, got {number}.")
        train, valid = self.pairs[number]
        return part_of_rows(self.source, train), part_of_rows(self.source, valid)

    def describe(self) -> dict[str, Any]:
        """Return their number and a digest of all of their rows, as JSON."""
        sha = hashlib.sha256()
        for rows in (rows for pair in self.pairs for rows in pair):
            sha.update(f"{len(rows)}:".encode())
            sha.update(rows.numpy().tobytes())
        return {"number": len(self), "rows": sha.hexdigest()[:16]}


def folds_of(folds: Any, source: Source, what: str = "Trainer: folds") -> Folds:
    """Return the folds that an argument asks for.

    A number divides the rows at random into so many parts that differ by one row at most; each is the validation part
    of one fold. Where the targets are classes, so do their counts of every class. The division is a function of number
    and targets only: no seed changes it.

    Args:
        folds: the number of folds, or pairs (training rows, validation rows), each as row numbers, a mask or a slice.
        source: all rows.
        what: opens the messages.

    Raises:
        ValueError: there are fewer than two folds, or more than rows; a row is out of range, or on both sides of a
            fold; a side is empty.
        TypeError: it is neither a number nor pairs.
    """
    if isinstance(folds, int):
        return Folds(source, _divided(folds, source, what))
    if not isinstance(folds, Iterable) or isinstance(folds, str | bytes | dict):
        way = "; give it the data: list(folds.split(inputs, targets))" if hasattr(folds, "split") else ""
        raise TypeError(f"{what} needs a number or (train, valid) pairs of row numbers, got {folds!r}{way}.")
    pairs = tuple(_pair(pair, len(source), f"{what}: fold {number}") for number, pair in enumerate(folds))
    if len(pairs) < 2:
        raise ValueError(
            f"{what} needs at least 2 pairs, got {len(pairs)}; a single split is Trainer(data[train], data[valid])."
        )
    return Folds(source, pairs)


def part_of_rows(source: Source, rows: Tensor) -> Source:
    """Return the rows of these numbers as a source that loads as `source` does."""
    return DataView(source, rows) if isinstance(source, Data) else source.part(rows.tolist())


def classes_of(source: Source) -> Tensor | None:
    """Return the class of each row, int64, shape (n,); None where targets are not classes, or are not at hand.

    Targets with one value a row are classes if they are whole numbers or booleans, or all 0 or 1. A Dataset has them at
    hand where it keeps them in an attribute `targets` or `labels`, or in a column of the name that they have in a row,
    as those of Hugging Face do; its rows are not loaded for it.
    """
    return _classes(source.targets if isinstance(source, Data) else _kept(source.dataset, source.target), len(source))


def _kept(dataset: Any, column: str) -> Any:
    """Return the targets that a dataset keeps, or None."""
    if isinstance(dataset, Subset):
        inner = _kept(dataset.dataset, column)
        return None if inner is None else np.asarray(inner)[list(dataset.indices)]
    if column and column in (getattr(dataset, "column_names", None) or ()):
        return dataset[column][:]
    return next((getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)), None)


def _classes(targets: Any, rows: int) -> Tensor | None:
    try:
        values = torch.as_tensor(targets).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    if values.ndim == 0 or len(values) != rows or values.numel() != rows or values.is_complex():
        return None
    whole = not values.is_floating_point() or bool(((values == 0) | (values == 1)).all())
    return values.reshape(-1).long() if whole else None


def _divided(count: int, source: Source, what: str) -> tuple[Pair, ...]:
    rows = len(source)
    if not is_whole(count, 2):
        raise ValueError(f"{what} needs to be a whole number >= 2, got {count!r}; leave it out for none, with valid.")
    if count > rows:
        raise ValueError(f"{what}={count} needs at least as many rows, got {plural(rows, 'row')}.")
    order = torch.randperm(rows, generator=torch_stream(0, "folds"))
    classes = classes_of(source)
    if classes is not None:
        order = order[classes[order].argsort(stable=True)]
    fold = torch.empty(rows, dtype=torch.int64)
    fold[order] = torch.arange(rows) % count
    return tuple(((fold != i).nonzero().flatten(), (fold == i).nonzero().flatten()) for i in range(count))


def _pair(pair: Any, total: int, what: str) -> Pair:
    if not isinstance(pair, tuple | list | np.ndarray | Tensor) or len(pair) != 2:
        raise TypeError(f"{what} needs a pair (train rows, valid rows), got {type(pair).__name__}.")
    train, valid = (
        _rows(rows, total, f"{what}, {name} rows") for rows, name in zip(pair, ("train", "valid"), strict=True)
    )
    both = valid[torch.isin(valid, train)]
    if len(both):
        raise ValueError(
            f"{what}: a row is either trained on or validated on, got {plural(len(both), 'row')} on both sides, the"
            f" first is row {both.min()}; take them out of one."
        )
    return train, valid


def _rows(rows: Any, total: int, what: str) -> Tensor:
    """Return row numbers from numbers, a mask or a slice."""
    numbers = np.arange(total)[rows] if isinstance(rows, slice) else _array(rows, what)
    if numbers.dtype == bool:
        if len(numbers) != total:
            raise ValueError(f"{what}: a mask needs one value for each of {total} rows, got {len(numbers)}.")
        numbers = numbers.nonzero()[0]
    if not len(numbers):
        raise ValueError(f"{what}: needs at least one row, got none.")
    if not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"{what}: row numbers need to be whole numbers, got {numbers.dtype}.")
    outside = numbers[(numbers < 0) | (numbers >= total)]
    if len(outside):
        raise ValueError(f"{what}: there are rows 0 to {total - 1}, got {outside[0]}.")
    return torch.from_numpy(numbers.astype(np.int64))


def _array(rows: Any, what: str) -> Any:
    try:
        array = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    except ValueError:
        array = None
    if array is None or array.ndim != 1:
        raise TypeError(f"{what}: needs a flat list of row numbers or a mask, got {type(rows).__name__}.")
    return array
