"""The gradient of one batch: in one backward pass, or in micro-batches that add up to it."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from tuneflow.data.data import Batch, sliced
from tuneflow.train.loss_divisor import shares

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

    Each part is weighted by its share of what `loss` averages over, see `loss_divisor`. Layers that look across rows,
    as BatchNorm does, see the parts and not the batch.

    Args:
        loss_of: the loss of (module, batch), a scalar tensor.
        module: the module in training mode.
        batch: inputs and targets on the module's device.
        optimizer: clears the gradients first.
        loss: read for what it averages over: rows, elements, or targets that are not ignored.
        size: rows of a part; the last may have fewer.
        scaler: multiplies the gradients, not the loss that is returned.

    Returns:
        The loss of the whole batch.
    """
    optimizer.zero_grad()
    parts = list(sliced(batch, size))
    value = 0.0
    for part, share in zip(parts, shares(loss, [targets for _, targets in parts]), strict=True):
        if share == 0.0:
            continue
        loss_here = loss_of(module, part) * share
        value += loss_here.item()
        if not math.isfinite(value):
            break
        (loss_here if scaler is None else scaler.scale(loss_here)).backward()  # type: ignore[no-untyped-call]
    return value
