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
    ranges = [_range(inputs) for inputs in batches]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if not (-float("inf") < low < high < float("inf")):  # a comparison with NaN is False
        raise ValueError(f"a box needs inputs with a finite range, got values from {low:g} to {high:g}; say box=.")
    return low, high


def _range(inputs: Any) -> tuple[float, float]:
    if not isinstance(inputs, Tensor) or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        kind = f"a tensor of {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"attacks need inputs that are one tensor of floating-point numbers or bytes, got {kind}.")
    low, high = inputs.aminmax()
    return float(low), float(high)
