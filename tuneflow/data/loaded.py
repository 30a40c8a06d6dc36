"""Sources that load their rows: a torch Dataset, item by item, and a torch DataLoader, rebuilt with our own order."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from tuneflow.data.collate import Collate
from tuneflow.data.orders import Order, Shuffled, order_of
from tuneflow.data.pairs import Batch, Target, pair_of
from tuneflow.data.row_numbers import random_parts, selected
from tuneflow.data.tables import is_table

KEPT = ("collate_fn", "num_workers", "worker_init_fn", "multiprocessing_context", "timeout", "prefetch_factor")


class DatasetSource:
    """A map-style torch Dataset: items are loaded by number and collated, batch by batch.

    Transforms that draw from the global generators are repeatable, since those are seeded at the start of every epoch.

    Args:
        dataset: has a length, and rows by number.
        targets: the entry of a row that holds the targets: a name or an index; None for rows that are pairs.

    Attributes:
        target: the entry of a row's inputs that holds the targets too; empty for none.
    """

    def __init__(self, dataset: Any, targets: Target = None) -> None:
        self.dataset: Dataset[Any] = dataset
        self.target = targets if isinstance(targets, str) else ""
        self._target = targets
        self._order: Order | None = None
        _check_items(dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        targets = "" if self._target is None else f", targets={self._target!r}"
        return f"Data({self.digest()}{targets})"

    def __getitem__(self, rows: Any) -> Self:
        """Return some rows as a source: a slice, a sequence of row numbers, or a boolean mask."""
        return self.part(selected(rows, len(self)).tolist())

    def split(self, *shares: float, seed: int = 0) -> list[Self]:
        """Split into random parts without overlap, as Data.split does; nothing is loaded."""
        return [self.part(rows.tolist()) for rows in random_parts(len(self), shares, seed)]

    @property
    def order(self) -> Order:
        """The rows of a training epoch: every row once, unless a sampler says otherwise."""
        return self._order or Shuffled(len(self))

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches, like Data.batches."""
        rows = range(len(self)) if order is None else order.tolist()
        collate = Collate(default_collate, self._name)
        for start in range(0, len(rows), size):
            yield self._pair(collate([self.dataset[i] for i in rows[start : start + size]]))

    def rows(self, numbers: list[int]) -> "DatasetSource":
        """Return the rows of these numbers as a source."""
        return DatasetSource(Subset(self.dataset, numbers), self._target)

    def part(self, numbers: list[int]) -> Self:
        """Return the rows of these numbers as a source that loads them as this one does."""
        part = copy.copy(self)
        part.dataset = Subset(self.dataset, numbers)
        part._order = None if self._order is None else self._order.part(numbers)
        return part

    def digest(self) -> str:
        drawn = f", {self._order.describe()}" if self._order is not None else ""
        return f"{self._name}, {len(self)} items{drawn}"

    @property
    def _name(self) -> str:
        """The class of the dataset, also where this is a part of it."""
        inner: Any = self.dataset
        while isinstance(inner, Subset):
            inner = inner.dataset
        return type(inner).__name__

    def _pair(self, batch: Any) -> Batch:
        return pair_of(batch, self._target, self._name)


class LoaderSource(DatasetSource):
    """A torch DataLoader, rebuilt with batches and an order of our own, so that an epoch can be replayed.

    Dataset, collate_fn, workers and pinned memory are the loader's. So are the weights, rows and replacement of its
    sampler, but it draws from our generators. Its batch size and generator are not used; its workers live for one
    epoch. Their seeds come from a copy of torch's global generator, which is seeded at the start of every epoch: random
    transforms are repeatable, for one number of workers.

    Args:
        loader: of a map-style dataset.
        targets: as for a DatasetSource.
        trained: False for rows to evaluate on, each of which counts once: a sampler that draws is refused.

    Raises:
        ValueError: the loader has no numbered rows, or a sampler that is not known.
    """

    def __init__(self, loader: DataLoader[Any], targets: Target = None, trained: bool = True) -> None:
        _check_loader(loader)
        self._batch_size, self._drop_last = loader.batch_size, loader.drop_last
        dataset, sampler = loader.dataset, loader.sampler
        if type(sampler) is SubsetRandomSampler:
            dataset = Subset(dataset, [int(i) for i in sampler.indices])
        super().__init__(dataset, targets)
        self._order = order_of(sampler, len(self))
        if type(sampler) not in (RandomSampler, SequentialSampler, SubsetRandomSampler) and self._order is None:
            raise ValueError(
                f"DataLoader: the order of rows is the Trainer's, got sampler={_name(sampler)}; leave it out, or take"
                " one of torch.utils.data, such as WeightedRandomSampler or SubsetRandomSampler."
            )
        if not trained:
            self.check_evaluated()
        self._settings: dict[str, Any] = {name: getattr(loader, name) for name in KEPT}
        self._settings["collate_fn"] = Collate(loader.collate_fn, self._name)
        self._settings["pin_memory"] = loader.pin_memory and torch.accelerator.is_available()

    def ignored(self, batch_size: int) -> list[str]:
        """Return the loader's settings that batches of this size replace."""
        ignored = [] if self._batch_size == batch_size else [f"batch_size={self._batch_size}"]
        return [*ignored, *(["drop_last=True"] if self._drop_last and self.order.rows % batch_size else [])]

    def check_evaluated(self) -> None:
        """Raise ValueError if an epoch is not every row once, as an evaluation needs it."""
        if self._order is not None:
            raise ValueError(
                f"DataLoader: an evaluation takes every row once, got a sampler ({self._order.describe()}); leave it"
                " out here, and keep it in the training loader."
            )

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches, like Data.batches."""
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())  # a copy: what the model draws does not depend on the loader
        rows = range(len(self)) if order is None else order.tolist()
        loader = DataLoader(self.dataset, size, sampler=rows, generator=generator, **self._settings)
        for batch in loader:
            yield self._pair(batch)

    def rows(self, numbers: list[int]) -> "LoaderSource":
        """Return the rows of these numbers as a source, loaded in this process."""
        rows = self.part(numbers)
        rows._order = None
        rows._settings = {"collate_fn": self._settings["collate_fn"]}
        return rows


def loads_rows(data: Any) -> bool:
    """True for a map-style dataset, torch's or one that only looks like it, and for a DataLoader."""
    if isinstance(data, Dataset | DataLoader):
        return not isinstance(data, IterableDataset)
    plain = isinstance(data, Tensor | np.ndarray | str | bytes | range | tuple | list | Mapping)
    return (
        not plain and not is_table(data) and _has(data, "__getitem__") and _has(data, "__len__") and not _is_array(data)
    )


def source_of(data: Any, targets: Target) -> DatasetSource:
    """Return a source of a dataset or DataLoader whose rows hold their targets under a name or an index."""
    return LoaderSource(data, targets) if isinstance(data, DataLoader) else DatasetSource(data, targets)


def _has(data: Any, method: str) -> bool:
    return hasattr(type(data), method)


def _is_array(data: Any) -> bool:
    """True for arrays of other libraries, series and sparse matrices."""
    return any(hasattr(data, name) for name in ("__array__", "toarray", "dtype"))


def _check_loader(loader: DataLoader[Any]) -> None:
    """Raise ValueError unless the loader can be rebuilt with an order from outside."""
    if isinstance(loader.dataset, IterableDataset):
        found = f"DataLoader: needs rows with numbers, got an IterableDataset ({_name(loader.dataset)})"
        way = "give a map-style Dataset, or read it once into a tn.Data"
    elif type(loader).__iter__ is not DataLoader.__iter__:
        found = f"DataLoader: cannot be rebuilt, got the subclass {_name(loader)} with an __iter__ of its own"
        way = "do that work in the Dataset or in collate_fn"
    elif loader.batch_sampler is None:
        found = "DataLoader: needs a Dataset of single rows, got batch_size=None, a Dataset that makes batches itself"
        way = "let the Dataset return one row at a time, or read it once into a tn.Data"
    elif loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        found = f"DataLoader: order and batches are the Trainer's, got batch_sampler={_name(loader.batch_sampler)}"
        way = "leave it out"
    else:
        return
    raise ValueError(f"{found}; {way}.")


def _name(thing: Any) -> str:
    return type(thing).__name__


def _check_items(dataset: Any) -> None:
    try:
        count = len(dataset)
    except TypeError:
        raise ValueError(f"{_name(dataset)}: needs a length; give it a method __len__.") from None
    if count == 0:
        raise ValueError(f"{_name(dataset)}: needs at least one item, got 0.")
