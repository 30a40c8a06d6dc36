"""Collating rows to a batch; where torch's own collate function fails, the message says which rows differ in what."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate

from tuneflow.errors import listed

PAD = "a DataLoader with a collate_fn can pad each batch, as torch.nn.utils.rnn.pad_sequence does"


class Collate:
    """A collate function; of torch's own, failures are explained.

    Args:
        function: takes a list of rows and returns a batch.
        source: the name of the dataset, for messages.
    """

    def __init__(self, function: Callable[[list[Any]], Any], source: str) -> None:
        self._function, self._source = function, source

    def __call__(self, rows: list[Any]) -> Any:
        """Return the batch of these rows.

        Raises:
            ValueError: they differ in shape, or hold something that is no number.
        """
        if self._function is not default_collate:
            return self._function(rows)
        if place := _list_of_numbers(rows[0]):
            raise ValueError(
                f"{self._source}: {place} of a row is a list of numbers, which torch would collate number by number;"
                ' return torch.tensor(...) of it, as with_format("torch") does in the library datasets.'
            )
        try:
            return default_collate(rows)
        except Exception as error:
            if reason := difference(rows):
                raise ValueError(f"{self._source}: {reason}.") from None
            raise error


def difference(rows: Sequence[Any], place: str = "") -> str:
    """Return why rows cannot be collated, in words; empty where they look alike."""
    first = rows[0]
    kinds = {type(row).__name__ for row in rows}
    if "NoneType" in kinds:
        at = [row is None for row in rows].index(True)
        return f"{place or 'a row'} is None, first in row {at} of a batch; leave such rows out of the dataset"
    if isinstance(first, Tensor | np.ndarray) and len(kinds) == 1:
        shapes = list(dict.fromkeys(tuple(row.shape) for row in rows))
        return f"rows differ in the shape of {place}, {listed(map(str, shapes[:2]))}; {PAD}" if len(shapes) > 1 else ""
    if isinstance(first, Mapping | tuple | list):
        return _difference_of_containers(rows, place)
    if len(kinds) > 1:
        return f"rows differ in the kind of {place or 'object'}, {listed(sorted(kinds))}; return the same from each"
    if isinstance(first, numbers.Number | str | bytes | Tensor):
        return ""
    return f"{place or 'a row'} is a {type(first).__name__}, and a batch is made of tensors, arrays and numbers"


def _difference_of_containers(rows: Sequence[Any], place: str) -> str:
    keys = [list(_parts(row)) for row in rows]
    other = next((key for key in keys if key != keys[0]), None)
    if other is not None and isinstance(rows[0], Mapping):
        return f"rows have different entries, {listed(map(str, keys[0]))} and {listed(map(str, other))}"
    if other is not None:
        return f"rows differ in the length of {place or 'their tuple'}, {len(keys[0])} and {len(other)}; {PAD}"
    names = _names(rows[0], place)
    found = (difference([_parts(row)[key] for row in rows], names[key]) for key in keys[0])
    return next(filter(None, found), "")


def _list_of_numbers(value: Any, place: str = "") -> str:
    """Return where a row holds a list of plain numbers; empty where it does not."""
    if place and isinstance(value, list) and value and all(isinstance(v, numbers.Number) for v in value):
        return place
    if not isinstance(value, Mapping | tuple | list):
        return ""
    names = _names(value, place)
    return next(filter(None, (_list_of_numbers(part, names[key]) for key, part in _parts(value).items())), "")


def _parts(container: Any) -> dict[Any, Any]:
    return dict(container.items()) if isinstance(container, Mapping) else dict(enumerate(container))


def _names(container: Any, place: str) -> dict[Any, str]:
    """Return what each part of a row is called: its entry, its part, or inputs and targets of a pair."""
    keys = list(_parts(container))
    if isinstance(container, Mapping):
        return {key: f'entry "{key}"' for key in keys}
    if not place and len(keys) == 2:
        return {0: "the inputs", 1: "the targets"}
    return {key: f"part {key}{f' of {place}' if place else ''}" for key in keys}
