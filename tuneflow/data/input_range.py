"""The range of the training inputs, for objects that need to know what values inputs can have."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def range_of(batches: Iterable[Any]) -> tuple[float, float]:
    """Return the lowest and the highest value in batches of inputs.

    Raises:
        TypeError: inputs are not one tensor of floating-point numbers or bytes.
        ValueError: they are all the same, or not finite.
    """
    low, high = extremes_of(batches)
    if low == high:
        raise ValueError(f"a box needs inputs of more than one value, got {low:g} alone; say box=.")
    return low, high


def extremes_of(batches: Iterable[Any]) -> tuple[float, float]:
    """Return the lowest and the highest value in batches of inputs, which may be the same.

    Raises:
        TypeError: inputs are not one tensor of floating-point numbers or bytes.
        ValueError: they are not finite.
    """
    ranges = torch.tensor([_range(inputs) for inputs in batches], dtype=torch.float64)
    low, high = float(ranges.min()), float(ranges.max())
    if not -float("inf") < low <= high < float("inf"):  # a comparison with NaN is False
        raise ValueError(f"attacks need inputs that are finite, got values from {low:g} to {high:g}.")
    return low, high


def _range(inputs: Any) -> tuple[float, float]:
    if not isinstance(inputs, Tensor) or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        kind = f"a tensor of {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"attacks need inputs that are one tensor of floating-point numbers or bytes, got {kind}.")
    low, high = inputs.aminmax()
    return float(low), float(high)
