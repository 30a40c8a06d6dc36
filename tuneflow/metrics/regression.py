"""Metrics of numbers: absolute and squared errors, explained variance."""

import torch
from torch import Tensor


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of each example: shape (n,).

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0]))
        tensor([0.5000, 0.0000])
    """
    return (outputs.reshape(targets.shape) - targets).abs().reshape(len(targets), -1).mean(1)


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root of the mean squared error over all numbers: a scalar, float64.

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0])).item()
        3.5355339059327378
    """
    return (outputs.reshape(targets.shape).double() - targets).square().mean().sqrt()


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of the targets' variance that the outputs explain, over all rows: a scalar, at best 1.

    1 minus the squared errors over the squared distances from the targets' mean; for targets of several numbers the
    mean over these. Where a target is constant, 1 if it is met exactly, else 0.

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).item()
        1.0
    """
    wanted = targets.reshape(len(targets), -1).double()
    missed = (outputs.reshape(wanted.shape).double() - wanted).square().sum(0)
    spread = (wanted - wanted.mean(0)).square().sum(0)
    constant = (wanted == wanted[:1]).all(0)
    share = 1 - missed / torch.where(constant, 1.0, spread)
    return torch.where(constant, (missed == 0).to(share.dtype), share).mean()
