"""The difference between two states of training: none to the last bit, or a size relative to their norm."""

import math
from typing import Any

import torch
from torch import Tensor

from tuneflow.nested import paths
from tuneflow.train.job import TrainState


def state_difference(stored: TrainState, trained: TrainState) -> float:
    """Return the distance of two states: 0 where they are equal to the last bit, else the largest over their values.

    That of a tensor is the norm of the difference divided by its own norm, or by a tenth of the norm of all tensors
    where its own is less: rounding is as large in a bias that is almost 0 as in the weights beside it. A distance is
    infinite where a value is missing, of another shape or kind, not finite on one side only, or no number and another.
    """
    one, other = paths(stored.values), paths(trained.values)
    if stored.epoch != trained.epoch or one.keys() != other.keys():
        return math.inf
    several = [value for value in one.values() if isinstance(value, Tensor) and value.numel() > 1]
    least = 0.1 * math.hypot(*map(_norm, several))
    return max((_distance(one[path], other[path], least) for path in one), default=0.0)


def _distance(one: Any, other: Any, least: float) -> float:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _of_tensors(one.detach().cpu(), other.detach().cpu(), least)
    if type(one) is not type(other):
        return math.inf
    if isinstance(one, float):
        return _of_tensors(torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64), 0.0)
    return 0.0 if one == other else math.inf


def _of_tensors(one: Tensor, other: Tensor, least: float) -> float:
    if one.dtype != other.dtype or one.shape != other.shape:
        return math.inf
    if one.is_sparse or one.is_quantized or torch.equal(one, other):
        return 0.0 if torch.equal(one, other) else math.inf
    wide = torch.complex128 if one.is_complex() else torch.float64
    left, right = one.to(wide), other.to(wide)
    different = (left != right) & ~(left.isnan() & right.isnan())
    if not different.any():
        return 0.0
    size, unit = float((left - right)[different].norm()), max(least, _norm(one), _norm(other))
    return size / unit if math.isfinite(size) and unit else math.inf


def _norm(tensor: Tensor) -> float:
    """Return the norm of the finite numbers in a tensor."""
    if tensor.is_sparse or tensor.is_quantized:
        return 0.0
    finite = tensor.detach().cpu()
    return float(finite[finite.isfinite()].abs().double().norm())
