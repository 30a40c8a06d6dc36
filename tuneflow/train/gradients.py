"""The gradient of one batch: in one backward pass, or in micro-batches that add up to it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from tuneflow.data.data import Batch, sliced

LossOf = Callable[[nn.Module, Batch], Tensor]


def backward(
    loss_of: LossOf, module: nn.Module, batch: Batch, optimizer: Optimizer, scaler: GradScaler | None = None
) -> float:
    """Set the parameters' gradients to those of the batch's loss and return the loss; if it is not finite, set none.

    Args:
        loss_of: the loss of (module, batch), a scalar tensor.
        module: the module in training mode.
        batch: inputs and targets on the module's device.
        optimizer: clears the gradients first.
        scaler: multiplies the gradients, not the loss that is returned.
    """
    loss = loss_of(module, batch)
    value = loss.item()
    if math.isfinite(value):
        optimizer.zero_grad()
        (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    return value


def backward_in_parts(
    loss_of: LossOf,
    module: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    loss: Any,
    size: int,
    scaler: GradScaler | None = None,
) -> float:
    """Set the same gradients as `backward`, from `size` rows at a time: less memory for as much work.

    Each part is weighted by its share of what `loss` averages over: its rows, or with class weights or an ignored class
    its sum of weights. Layers that look across rows, as BatchNorm does, see the parts and not the batch.

    Args:
        loss_of: the loss of (module, batch), a scalar tensor.
        module: the module in training mode.
        batch: inputs and targets on the module's device.
        optimizer: clears the gradients first.
        loss: read for its `reduction`, `weight` and `ignore_index`, where it has them.
        size: rows of a part; the last may have fewer.
        scaler: multiplies the gradients, not the loss that is returned.

    Returns:
        The loss of the whole batch.
    """
    optimizer.zero_grad()
    parts = list(sliced(batch, size))
    divisors = [_divisor(loss, targets) for _, targets in parts]
    value = 0.0
    for part, divisor in zip(parts, divisors, strict=True):
        share = 1.0 if getattr(loss, "reduction", "mean") == "sum" else divisor / (sum(divisors) or 1.0)
        if share == 0.0:
            continue
        loss_here = loss_of(module, part) * share
        value += loss_here.item()
        if not math.isfinite(value):
            break
        (loss_here if scaler is None else scaler.scale(loss_here)).backward()  # type: ignore[no-untyped-call]
    return value


def _divisor(loss: Any, targets: Any) -> float:
    """The divisor of a mean loss over these targets: their number, or the sum of their class weights."""
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        return float(len(targets)) if isinstance(targets, Tensor) else 1.0
    ignored = getattr(loss, "ignore_index", None)
    counted = targets if ignored is None else targets[targets != ignored]
    weight = getattr(loss, "weight", None)
    if weight is None:
        return float(counted.numel())
    with torch.no_grad():
        return float(weight[counted].sum())
