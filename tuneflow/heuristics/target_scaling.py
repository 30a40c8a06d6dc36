"""Target standardization: a module learns numbers of mean 0 and standard deviation 1, in any units of the targets."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from tuneflow.heuristics.forward_trace import ADDS, JOINS, LOOKUPS, PRODUCTS, Trace
from tuneflow.heuristics.input_scaling import Moments, NormalizedModule, Normalizer, is_standard, normalizer_of
from tuneflow.heuristics.unchanged import looked_at

SQUARES = (nn.MSELoss, nn.HuberLoss, functional.mse_loss, functional.huber_loss)
DISTANCES = (nn.L1Loss, nn.SmoothL1Loss, functional.l1_loss, functional.smooth_l1_loss)
SMALLEST, LARGEST = 1e-15, 1e15  # beyond, the square of a standard deviation is no number of single precision

RESHAPES = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "movedim"),
    *("contiguous", "__getitem__", "narrow", "select", "float", "double", "to", "mean", "sum", "interpolate"),
    *("pixel_shuffle", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
)


class Scale(Normalizer):
    """The mean and standard deviation of targets, column by column.

    Args:
        mean: a shape that broadcasts against a batch of targets.
        std: the same; above 0.
        size: root mean square of the columns' standard deviations.
    """

    def __init__(self, mean: Tensor, std: Tensor, size: float) -> None:
        super().__init__(mean, std)
        self.size = size

    def unit_of(self, loss: Any) -> float:
        """Return `loss` in the targets' units where it is 1 between standardized numbers, apart from its threshold."""
        return float(self.size ** (power_of(loss) or 0))


class RescaledModule(nn.Module):
    """A module that learned standardized targets, with the scale behind it: its outputs are in the targets' units.

    `module` is the module as it was, its state_dict keys unchanged; mean and standard deviation are buffers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        outputs: Tensor = self.module(*inputs, **named)
        return outputs * self.std + self.mean


def completed(module: nn.Module, normalizer: nn.Module | None, scale: Scale | None) -> nn.Module:
    """Return `module` with normalizer and scale around it: raw inputs, and outputs in the targets' units."""
    module = module if normalizer is None else NormalizedModule(module, normalizer)
    return module if scale is None else RescaledModule(module, scale.mean, scale.std)


def brought_scale(module: nn.Module) -> Scale | None:
    """Return the scale that a module brings, as the trained module of another study does."""
    if not isinstance(module, RescaledModule):
        return None
    return Scale(module.mean, module.std, float(module.std.double().square().mean().sqrt()))


def scale_of(moments: Moments) -> Scale | None:
    """Return the scale of targets from their moments, or None where they are to be left alone.

    A column that is constant among others has their size as its standard deviation, so that it weighs no more than they
    do. Left alone are targets that are not one floating-point tensor, are constant, have mean 0 and std 1 already, or
    are too large or small for their squares to be single-precision numbers.

    Example:
        >>> moments = Moments()
        >>> moments.add(torch.tensor([[10.0, 7.0], [14.0, 7.0]]))
        >>> scale = scale_of(moments)
        >>> scale.mean.tolist(), scale.std.tolist(), scale.size
        ([[12.0, 7.0]], [[2.0, 2.0]], 2.0)
    """
    if not moments.usable or moments.is_byte or moments.count == 0:
        return None
    mean, std = moments.mean, moments.std
    varies = std > 0
    if not varies.any() or not mean.isfinite().all() or not std.isfinite().all():
        return None
    size = float(std[varies].square().mean().sqrt())
    if is_standard(mean, std[varies]) or not SMALLEST < size < LARGEST:
        return None
    std = torch.where(varies, std, size)
    if std.numel() == 1:  # broadcasts against outputs of any shape, and leaves that as it is
        mean, std = mean.flatten(), std.flatten()
    dtype = torch.get_default_dtype()
    return Scale(mean.to(dtype), std.to(dtype), size)


def fit_both(batches: Iterable[tuple[Any, Any]]) -> tuple[Normalizer | None, Scale | None]:
    """Fit the normalizer of the inputs and the scale of the targets, in one pass."""
    inputs, targets = Moments(), Moments()
    for batch in batches:
        inputs.add(batch[0])
        targets.add(batch[1])
        if not (inputs.usable or targets.usable):
            break
    return normalizer_of(inputs), scale_of(targets)


def scales_with_targets(loss: Any) -> bool:
    """True if other units of the targets change this loss by a factor only: MSE, L1, smooth L1 and Huber.

    That holds where a threshold is in the same units. Subclasses may compute anything, so they do not count.
    """
    return power_of(loss) is not None


def reaches_any_number(module: nn.Module, inputs: Any) -> bool:
    """True if `module` ends in a linear map, so that its outputs can have any scale.

    The map may be followed by reshaping, averaging or adding. False where a sigmoid or exponential keeps outputs in a
    range, or where the module scales them by itself. Runs one forward pass without gradients in evaluation mode; the
    module is restored. A module that cannot be traced, such as a scripted one, counts as False.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
        >>> reaches_any_number(net, torch.ones(2, 2)), reaches_any_number(net.append(nn.Sigmoid()), torch.ones(2, 2))
        (True, False)
    """
    module = getattr(module, "_orig_mod", module)  # what was compiled
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return False
    try:
        with looked_at(module):
            trace = Trace(module, inputs, [])
    except Exception:  # training will say what is wrong
        return False
    return isinstance(trace.outputs, Tensor) and len(trace.ends) == 1 and _free(trace, trace.ends[0])


def _free(trace: Trace, number: int) -> bool:
    call = trace.calls[number]
    if call.name in (*PRODUCTS, *LOOKUPS) or call.name.startswith("conv"):
        return True
    if call.name in JOINS:
        return bool(call.takes) and all(_free(trace, earlier) for earlier in call.takes)
    if call.name in RESHAPES or (call.name in ADDS and len(call.takes) > 1):
        return any(_free(trace, earlier) for earlier in call.takes)
    return False


def power_of(loss: Any) -> int | None:
    """Return the power of the targets' unit in the loss's; None for a loss that is not of this kind.

    An object with a loss of its own has it as its `unit_power`.
    """
    loss = loss.func if isinstance(loss, partial) else loss
    if isinstance(own := getattr(loss, "unit_power", None), int):
        return own
    for power, kinds in ((2, SQUARES), (1, DISTANCES)):
        if any(loss is kind or type(loss) is kind for kind in kinds):
            return power
    return None
