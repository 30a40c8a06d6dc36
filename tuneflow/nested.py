"""Nested batches and values: a tensor, or containers of them to any depth, each of which keeps its own type."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Path = tuple[Any, ...]  # keys and indices that lead to a value


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """`batch` (a tensor, or containers of them, see `parts_of`) with `function` applied to every tensor.

    Containers keep their types. A PackedSequence counts as its data; anything else that is no tensor stays as it is.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, PackedSequence):
        return batch._replace(data=function(batch.data))
    parts = parts_of(batch)
    if parts is None:
        return batch
    return rebuilt(batch, {key: mapped(function, value) for key, value in parts.items()})


def parts_of(value: Any) -> dict[Any, Any] | None:
    """Return what a container holds, by key, index or name; None for anything that is no container.

    Containers are tuples, named ones too, lists, mappings, dataclasses and simple namespaces.
    """
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return fields | getattr(value, "__dict__", {})  # with what __post_init__ added
    return dict(vars(value)) if type(value) is SimpleNamespace else None


def rebuilt(container: Any, parts: dict[Any, Any]) -> Any:
    """Return a container like `container` that holds `parts`, keyed as `parts_of` has them."""
    if type(container) is dict:
        return parts
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return type(container)(*parts.values())
    if isinstance(container, tuple | list):
        return type(container)(list(parts.values()))
    new = copy.copy(container)
    if isinstance(container, Mapping):
        if not hasattr(new, "__setitem__"):
            return parts
        attributes = getattr(new, "__dict__", {})
        for key, value in parts.items():
            if attributes.get(key, container) is container[key]:  # an attribute that is the item
                object.__setattr__(new, key, value)
            new[key] = value
    else:
        for name, value in parts.items():
            object.__setattr__(new, name, value)
    return new


def rows_taken(batch: Any, rows: slice | Tensor, count: int) -> Any:
    """Return some rows of a nested batch of `count` rows; what has another length than that belongs to all of them.

    What is taken for a list of rows is said at `holds_rows`.

    Args:
        batch: tensors and containers of them.
        rows: a slice, or row numbers, which may be repeated.
        count: number of rows of the batch.
    """
    if isinstance(batch, Tensor):
        return batch[_on_device(rows, batch)] if batch.ndim and len(batch) == count else batch
    if holds_rows(batch, count):
        return list_taken(batch, rows)
    parts = parts_of(batch)
    return batch if parts is None else rebuilt(batch, {key: rows_taken(v, rows, count) for key, v in parts.items()})


def list_taken(values: Any, rows: slice | Tensor) -> Any:
    """Return some values of a list or tuple, in its own type."""
    return type(values)(values[rows] if isinstance(rows, slice) else [values[row] for row in rows.tolist()])


def _on_device(rows: slice | Tensor, batch: Tensor) -> slice | Tensor:
    return rows if isinstance(rows, slice) else rows.to(batch.device)


def holds_rows(value: Any, count: int) -> bool:
    """True for a list with one object per row, and for a tuple with one mapping, string or tensor per row.

    Tensors that are all `count` long are not taken for rows: they are several values of each row.
    """
    if not isinstance(value, list | tuple) or len(value) != count or hasattr(value, "_fields"):
        return False
    if all(isinstance(row, Tensor) for row in value):
        return any(row.ndim == 0 or len(row) != count for row in value)
    return isinstance(value, list) or all(isinstance(row, Mapping | str) for row in value)


def row_count(batch: Any) -> int:
    """Return the number of rows of a nested batch: of its first tensor, or where rows are objects, of their list."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    if isinstance(batch, list | tuple) and batch and not hasattr(batch, "_fields"):
        if all(isinstance(row, Mapping | str) for row in batch):
            return len(batch)
        if all(isinstance(row, Tensor) for row in batch) and len({row.shape[:1] for row in batch}) > 1:
            return len(batch)
    counts = (row_count(part) for part in (parts_of(batch) or {}).values())
    return next((count for count in counts if count), 0)


def leaves(batch: Any) -> list[Tensor]:
    """Every tensor of a nested batch, in order."""
    found: list[Tensor] = []
    mapped(found.append, batch)
    return found


def copied(value: Any) -> Any:
    """A deep copy of nested tensors and plain values: tensors detached and cloned."""
    if type(value) in (float, int, str, bool):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return rebuilt(value, dict(enumerate(map(copied, value))))
    return value


def paths(values: Any, path: Path = ()) -> dict[Path, Any]:
    """Return every leaf of nested dicts, lists and tuples by its path: the keys and indices that lead to it."""
    if isinstance(values, dict | list | tuple):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        return {where: leaf for key, inner in items for where, leaf in paths(inner, (*path, key)).items()}
    return {path: values}
