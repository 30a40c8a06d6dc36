"""Sources that load their rows: a torch Dataset, item by item, and a torch DataLoader, rebuilt with our own order."""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

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
    TensorDataset,
    default_collate,
)

from tuneflow.data.data import Batch, Data
from tuneflow.errors import warn

T = TypeVar("T")
KEPT = ("collate_fn", "num_workers", "worker_init_fn", "multiprocessing_context", "timeout", "prefetch_factor")


class DatasetSource:
    """A map-style torch Dataset: items are loaded by number and collated, batch by batch.

    Transforms that draw from the global generators are repeatable, since those are seeded at the start of every epoch.

    Attributes:
        target: the entry of a row's inputs that holds the targets too; empty for none.
    """

    target = ""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset
        _check_items(dataset)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches, like Data.batches."""
        rows = range(len(self)) if order is None else order.tolist()
        for start in range(0, len(rows), size):
            yield _pair(default_collate([self.dataset[i] for i in rows[start : start + size]]), self.dataset)

    def rows(self, numbers: list[int]) -> "DatasetSource":
        """Return the rows of these numbers as a source."""
        return DatasetSource(Subset(self.dataset, numbers))

    def part(self, numbers: list[int]) -> "DatasetSource":
        """Return the rows of these numbers as a source that loads them as this one does."""
        part = copy.copy(self)
        part.dataset = Subset(self.dataset, numbers)
        return part

    def digest(self) -> str:
        return f"{_name(self.dataset)}, {len(self)} items"


class LoaderSource(DatasetSource):
    """A torch DataLoader, rebuilt with batches and an order of our own, so that an epoch can be replayed.

    Dataset, collate_fn, workers and pinned memory are the loader's. Its batch size, shuffling and generator are not
    used; its workers live for one epoch. Their seeds come from a copy of torch's global generator, which is seeded at
    the start of every epoch: random transforms are repeatable, for one number of workers.

    Raises:
        ValueError: the loader has no numbered rows, or a sampler of its own.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        _check_loader(loader)
        super().__init__(loader.dataset)
        self._settings: dict[str, Any] = {name: getattr(loader, name) for name in KEPT}
        self._settings["pin_memory"] = loader.pin_memory and torch.accelerator.is_available()

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yield batches, like Data.batches."""
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())  # a copy: what the model draws does not depend on the loader
        rows = range(len(self)) if order is None else order.tolist()
        loader = DataLoader(self.dataset, size, sampler=rows, generator=generator, **self._settings)
        for batch in loader:
            yield _pair(batch, self.dataset)

    def rows(self, numbers: list[int]) -> "LoaderSource":
        """Return the rows of these numbers as a source, loaded in this process."""
        return LoaderSource(DataLoader(Subset(self.dataset, numbers), collate_fn=self._settings["collate_fn"]))


def warn_of_settings(loader: DataLoader[Any], batch_size: int, what: str) -> None:
    """Warn of the settings of a training loader that the Trainer's own settings replace."""
    ignored = []
    if loader.batch_size != batch_size:
        ignored.append(f"batch_size={loader.batch_size}")
    if loader.drop_last and len(loader.dataset) % batch_size:  # type: ignore[arg-type]
        ignored.append("drop_last=True")
    if ignored:
        warn(
            f"{what}: the DataLoader's {' and '.join(ignored)} is not used; the Trainer makes batches of"
            f" batch_size={batch_size}, the last one shorter. Give the size that you want to the Trainer."
        )


Source = Data | DatasetSource


def as_source(data: Any, what: str, batch_size: int | None = None) -> Source:
    """Convert a Trainer's data argument to a source of batches.

    Args:
        data: a Data, a pair (inputs, targets), a map-style Dataset, or a DataLoader of one.
        what: opens the message, such as `Trainer: train`.
        batch_size: the Trainer's, to warn of a DataLoader that has another; None for no warning.

    Raises:
        TypeError: it is none of these.
        ValueError: it has no rows, or cannot be replayed.
    """
    if isinstance(data, Source):
        return data
    pair = data.tensors if isinstance(data, TensorDataset) else data
    if isinstance(pair, tuple) and len(pair) == 2:
        return _named(what, Data, *pair)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _named(what, DatasetSource, data)
    if isinstance(data, DataLoader):
        loaded = _named(what, LoaderSource, data)
        if batch_size is not None:
            warn_of_settings(data, batch_size, what)
        return loaded
    raise TypeError(
        f"{what} needs a tn.Data, a pair (inputs, targets), a map-style torch Dataset or a DataLoader of one, got"
        f" {type(data).__name__}."
    )


def _named(what: str, kind: type[T], *given: Any) -> T:
    """Return `kind(*given)`; its errors open with `what`."""
    try:
        return kind(*given)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{what}: {error}") from None


def _check_loader(loader: DataLoader[Any]) -> None:
    """Raise ValueError unless the loader can be rebuilt with an order from outside."""
    sampler = loader.sampler
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
    elif type(sampler) not in (RandomSampler, SequentialSampler):
        found = f"DataLoader: the order of rows is the Trainer's, got sampler={_name(sampler)}"
        way = "leave it out; unequal classes are weighted in the loss, as by nn.CrossEntropyLoss(weight=...)"
    elif isinstance(sampler, RandomSampler) and (
        sampler.replacement or sampler.num_samples != len(sampler.data_source)
    ):
        found = (
            "DataLoader: an epoch is every row once, got RandomSampler(replacement="
            f"{sampler.replacement}, num_samples={sampler.num_samples})"
        )
        way = "use shuffle=True"
    else:
        return
    raise ValueError(f"{found}; {way}.")


def _name(thing: Any) -> str:
    return type(thing).__name__


def _check_items(dataset: Dataset[Any]) -> None:
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{_name(dataset)}: needs a length; give it a method __len__.") from None
    if count == 0:
        raise ValueError(f"{_name(dataset)}: needs at least one item, got 0.")


def _pair(batch: Any, dataset: Dataset[Any]) -> Batch:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise ValueError(
            f"{_name(dataset)}: a row needs to be a pair (inputs, targets), got {_name(batch)}{size}; several inputs"
            " go into one tuple or dict."
        )
    return batch[0], batch[1]
