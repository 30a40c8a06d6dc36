"""Pairs: inputs and targets of a row or a batch, whichever container holds them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tuneflow.errors import did_you_mean, listed

Batch = tuple[Any, Any]  # (inputs, targets)
Target = str | int | None  # the entry that holds the targets: a name, an index, or None for the second of a pair
TARGET_NAMES = ("y", "target", "targets", "label", "labels")


def pair_of(batch: Any, target: Target, source: str) -> Batch:
    """Return the inputs and the targets of a batch.

    Where the targets have a name, the inputs are a dict of all entries, the targets' among them: a forward that
    computes its own loss needs them. Where they have an index, the inputs are all others, or the only other.

    Args:
        batch: a pair; with a name, a mapping, named tuple or dataclass; with an index, a tuple or list.
        target: see `Target`.
        source: the name of what gave the batch, for messages.

    Raises:
        ValueError: it is no such batch, or has no such entry.
    """
    if isinstance(target, str):
        return _named(batch, target, source)
    if target is not None:
        return _numbered(batch, target, source)
    if isinstance(batch, tuple | list) and len(batch) == 2:
        _check_names(batch, source)
        return batch[0], batch[1]
    raise ValueError(f"{source}: a row needs to be a pair (inputs, targets), got {_in_words(batch)}; {_way_of(batch)}.")


def _named(batch: Any, target: str, source: str) -> Batch:
    entries = _entries(batch)
    if entries is None:
        raise ValueError(f'{source}: targets="{target}" needs rows with names, such as a dict, got {_in_words(batch)}.')
    if target not in entries:
        near = did_you_mean(target, map(str, entries))
        raise ValueError(f'{source}: there is no entry "{target}".{near} A row has {listed(map(str, entries))}.')
    if len(entries) == 1:
        raise ValueError(f'{source}: a row needs inputs beside its targets, got "{target}" alone.')
    return entries, entries[target]


def _numbered(batch: Any, target: int, source: str) -> Batch:
    if not isinstance(batch, tuple | list) or not -len(batch) <= target < len(batch) or len(batch) < 2:
        raise ValueError(f"{source}: targets={target} needs rows of as many parts, got {_in_words(batch)}.")
    others = [part for number, part in enumerate(batch) if number != target % len(batch)]
    return (others[0] if len(others) == 1 else tuple(others)), batch[target]


def _check_names(batch: Any, source: str) -> None:
    """Raise ValueError for a named pair whose first part is called like targets."""
    names = getattr(batch, "_fields", ("", ""))
    if names[0] in TARGET_NAMES and names[1] not in TARGET_NAMES:
        raise ValueError(
            f"{source}: a pair is (inputs, targets), got the fields {listed(names)}; turn them round, or name the"
            f' targets: tn.Data({source.lower()}, targets="{names[0]}").'
        )


def _entries(batch: Any) -> dict[Any, Any] | None:
    """Return the entries of a mapping, a named tuple or a dataclass by their names."""
    if isinstance(batch, Mapping):
        return dict(batch.items())
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return dict(zip(batch._fields, batch, strict=True))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return None


def _in_words(batch: Any) -> str:
    entries = _entries(batch)
    if entries is not None:
        return f"{type(batch).__name__} with {listed(map(str, entries))}"
    return f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__


def _way_of(batch: Any) -> str:
    entries = _entries(batch)
    if entries is not None:
        name = next((name for name in entries if name in TARGET_NAMES), "labels")
        return f'name the targets: tn.Data(dataset, targets="{name}")'
    if isinstance(batch, tuple | list):
        return (
            "several inputs go into one tuple or dict, or say which part the targets are: tn.Data(dataset, targets=-1)"
        )
    return "return such a pair, or a dict and name the targets: tn.Data(dataset, targets=...)"
