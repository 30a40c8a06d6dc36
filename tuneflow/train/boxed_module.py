"""Modules whose record has the range of the training rows, for metrics and attacks that change inputs within it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from tuneflow.compress.winner import record_of, recorded

Box = tuple[float, float]


def use_box(objects: Iterable[Any]) -> bool:
    """True if one of these, such as an augmentation, a loss or a metric, needs the range of the training inputs."""
    return any(getattr(each, "uses_box", False) for each in objects)


def box_where_used(objects: Iterable[Any], box: Callable[[], Box]) -> Box | None:
    """Return the range of the training inputs if one of these objects uses it; None for inputs of a kind without one.

    Args:
        objects: as for `use_box`.
        box: returns the range.

    Raises:
        ValueError: the inputs are all the same, or not finite.
    """
    try:
        return box() if use_box(objects) else None
    except TypeError:  # tokens or a dict: an attack tells, and another object may do without
        return None


def with_box(module: nn.Module, box: Callable[[], Box]) -> nn.Module:
    """Return a module after its record was given the range of the training inputs, if it has none and they have one.

    Args:
        module: the record is its attribute.
        box: returns the range.
    """
    if record_of(module).box is not None:
        return module
    try:
        return recorded(module, replace(record_of(module), box=box()))
    except (TypeError, ValueError):  # inputs without a range: who needs it tells
        return module
