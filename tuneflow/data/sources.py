"""Sources: whatever a Trainer takes as its data, as one that gives batches in an order of ours."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tuneflow.data.conversion import is_list_of_rows
from tuneflow.data.data import Data
from tuneflow.data.loaded import DatasetSource, LoaderSource, loads_rows
from tuneflow.data.tables import is_table
from tuneflow.errors import warn

T = TypeVar("T")


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
    if isinstance(data, DataLoader):
        data = _named(what, LoaderSource, data, None, batch_size is not None)
    if isinstance(data, LoaderSource):
        _check_settings(data, what, batch_size)
    if isinstance(data, Source):
        return data
    pair = data.tensors if isinstance(data, TensorDataset) else data
    if isinstance(pair, tuple) and len(pair) == 2:
        return _named(what, Data, *pair)
    if loads_rows(data):
        return _named(what, DatasetSource, data)
    raise TypeError(
        f"{what} needs a tn.Data, a pair (inputs, targets), a map-style torch Dataset or a DataLoader of one, got"
        f" {type(data).__name__}{_way_of(data)}."
    )


def _way_of(data: Any) -> str:
    if is_table(data) or isinstance(data, dict):
        return f'; name the targets: tn.Data({"frame" if is_table(data) else "parts"}, targets="...")'
    if isinstance(data, tuple):
        return "; where targets are the last of several parts: tn.Data(parts, targets=-1)"
    if isinstance(data, IterableDataset):
        return "; its rows have no numbers: give a map-style Dataset, or read it once into a tn.Data"
    return "; targets=1 takes a list of pairs: tn.Data(rows, targets=1)" if is_list_of_rows(data) else ""


def _check_settings(loader: LoaderSource, what: str, batch_size: int | None) -> None:
    """Warn of the settings of a training loader that the Trainer's own replace; check one for evaluation."""
    if batch_size is None:
        _named(what, loader.check_evaluated)
        return
    ignored = loader.ignored(batch_size)
    if ignored:
        warn(
            f"{what}: the DataLoader's {' and '.join(ignored)} is not used; the Trainer makes batches of"
            f" batch_size={batch_size}, the last one shorter. Give the size that you want to the Trainer."
        )


def _named(what: str, kind: Callable[..., T], *given: Any) -> T:
    """Return `kind(*given)`; its errors open with `what`."""
    try:
        return kind(*given)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{what}: {error}") from None
