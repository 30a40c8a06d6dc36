"""Entries of a saved model: their kinds are checked, as a file with the right digest may still be a stranger's."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tuneflow.errors import CheckpointError
from tuneflow.train.spread import WORDS
from tuneflow.validate import is_number


def check_entries(content: Mapping[str, Any], path: str) -> None:
    """Check that a saved model has the entries that its module is made by, each of its kind.

    Args:
        content: of a file, or of a trial's state.
        path: opens the message.

    Raises:
        CheckpointError: an entry is absent or of another kind.
    """
    for name, right in ENTRIES.items():
        if not right(content.get(name, MISSING)):
            kind = "absent" if name not in content else f"not as tuneflow writes it ({_kind(content[name])})"
            raise CheckpointError(f'{path}: its entry "{name}" is {kind}, so tuneflow did not write it.')
    if (content["normalizer"] is None) != (content["normalizer_facts"] is None):
        raise CheckpointError(f'{path}: one of its entries "normalizer" and "normalizer_facts" is absent.')


def _kind(value: Any) -> str:
    return f"a {type(value).__name__} of other parts" if isinstance(value, dict | list) else type(value).__name__


def _is_built(value: Any) -> bool:
    return isinstance(value, dict) and _has_names(value.get("config")) and _are_texts(value.get("labels"))


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_recipes(value: Any) -> bool:
    return isinstance(value, list) and all(_has_names(each) and isinstance(each.get("kind"), str) for each in value)


def _are_tensors(value: Any) -> bool:
    return _has_names(value) and all(map(_is_plain, value.values()))


def _is_plain(value: Any) -> bool:
    """True for a tensor whose elements stand one by one in memory: none that is sparse, quantized or empty of them."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized and not value.is_meta


def _is_scale(value: Any) -> bool:
    return _are_tensors(value) and value.keys() == {"mean", "std"}


def _is_spread(value: Any) -> bool:
    return (
        _has_names(value)
        and value.keys() == {"how", "without"}
        and isinstance(value["how"], str)
        and value["how"] in WORDS
        and isinstance(value["without"], str)
    )


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _or(other: Any, right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is other or right(value)


MISSING = object()
ENTRIES: dict[str, Callable[[Any], bool]] = {
    "built": _is_built,
    "operations": _are_recipes,
    "calibration": _are_tensors,
    "rows": _are_texts,
    "box": _or(MISSING, _or(None, _is_range)),
    "weights": _are_tensors,
    "buffers": _or(MISSING, _has_names),
    "normalizer": _or(None, _are_tensors),
    "normalizer_facts": _or(None, _has_names),
    "scale": _or(None, _is_scale),
    "spread": _or(None, _is_spread),
}
