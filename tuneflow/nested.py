"""Nested batches and values: a tensor, or tuples, lists and dicts of them to any depth."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

Path = tuple[Any, ...]  # keys and indices that lead to a value


def mapped(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """`batch` (a tensor, or tuples, lists and dicts of them) with `function` applied to every tensor.

    A PackedSequence counts as its data; anything else that is no tensor stays as it is.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: mapped(function, value) for key, value in batch.items()}
    if isinstance(batch, PackedSequence):
        return batch._replace(data=function(batch.data))
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(function, value) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(mapped(function, value) for value in batch)
    return batch


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
        return type(value)(copied(inner) for inner in value)
    return value


def paths(values: Any, path: Path = ()) -> dict[Path, Any]:
    """Return every leaf of nested dicts, lists and tuples by its path: the keys and indices that lead to it."""
    if isinstance(values, dict | list | tuple):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        return {where: leaf for key, inner in items for where, leaf in paths(inner, (*path, key)).items()}
    return {path: values}
