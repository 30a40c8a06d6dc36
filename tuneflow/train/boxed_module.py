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
