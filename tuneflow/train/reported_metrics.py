"""Metrics that user code reports, as floats by name."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tuneflow.metrics.measured import Measured


def number_of(value: Any) -> float | None:
    """Return `value` as a float if it is one real number: Python's, NumPy's, or a tensor of one element; else None."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        return None if value.numel() != 1 or value.is_complex() else float(value.detach().item())
    if isinstance(value, np.ndarray | np.generic):
        return float(value.item()) if value.size == 1 and value.dtype.kind in "biuf" else None
    return float(value) if isinstance(value, numbers.Real) else None


def numbers_of(reported: Any, what: str) -> dict[str, float]:
    """Return the reported dict with every value as a float.

    Args:
        reported: names to numbers.
        what: opens the message, such as `loop train_mine, epoch 2`.

    Raises:
        TypeError: it is not a dict of numbers, or is empty; the message names the key.
    """
    if not isinstance(reported, Mapping) or not reported:
        raise TypeError(f'{what}: needs a dict of numbers such as {{"loss": 0.3}}, got {described(reported)}.')
    metrics = {}
    for name, value in reported.items():
        if not isinstance(name, str):
            raise TypeError(f"{what}: names of metrics are strings, got {name!r}.")
        number = number_of(value)
        if number is None:
            raise TypeError(
                f'{what}: "{name}" needs to be one number, got {described(value)};'
                " reduce it to a number, or give each part a name of its own."
            )
        metrics[name] = number
    return metrics


def measured_of(returned: Any) -> dict[str, Measured]:
    """Return what a trainer's `evaluate` returned, plain numbers as values without an error.

    Args:
        returned: names to numbers or Measured.

    Raises:
        TypeError: it is not a dict of those.
    """
    if isinstance(returned, Mapping) and all(isinstance(value, Measured) for value in returned.values()):
        return dict(returned)
    plain = {}
    if isinstance(returned, Mapping):
        plain = {name: value for name, value in returned.items() if not isinstance(value, Measured)}
    numbers = numbers_of(plain or returned, "evaluate")
    return {name: returned[name] if name not in numbers else Measured(numbers[name]) for name in returned}


def described(value: Any) -> str:
    """Describe a value for a message: tensors and arrays by their shape, long values by their type."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
