"""The gradient of one batch: at once, or in micro-batches that add up to it."""

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
    """Set the parameters' gradients to those of the batch's loss; returns the loss. Not finite: they are not set.

    Args:
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
    """As `backward`, `size` rows at a time: the same gradient with less memory.

    Each part counts with its share of what `loss` averages over: its rows, or under class weights or an ignored class
    its sum of weights. Layers that look across rows, as BatchNorm does, see the parts and not the batch.
    """
    optimizer.zero_grad()
    parts = list(sliced(batch, size))
    masses = [_mass(loss, targets) for _, targets in parts]
    value = 0.0
    for part, mass in zip(parts, masses, strict=True):
        share = 1.0 if getattr(loss, "reduction", "mean") == "sum" else mass / (sum(masses) or 1.0)
        if share == 0.0:
            continue
        loss_here = loss_of(module, part) * share
        value += loss_here.item()
        if not math.isfinite(value):
            break
        (loss_here if scaler is None else scaler.scale(loss_here)).backward()  # type: ignore[no-untyped-call]
    return value


def _mass(loss: Any, targets: Any) -> float:
    """What a mean over these targets is divided by, as a share of the whole batch's."""
    if not isinstance(targets, Tensor) or targets.is_floating_point():
        return float(len(targets)) if isinstance(targets, Tensor) else 1.0
    ignored = getattr(loss, "ignore_index", None)
    counted = targets if ignored is None else targets[targets != ignored]
    weight = getattr(loss, "weight", None)
    if weight is None:
        return float(counted.numel())
    with torch.no_grad():
        return float(weight[counted].sum())
