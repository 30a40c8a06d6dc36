"""Input normalisation: mean 0 and standard deviation 1 over the training examples."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

CLOSE = 0.05  # within this of mean 0 and std 1, data count as standardised already
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Normaliser:
    """Subtracts a mean and divides by a standard deviation, in the dtype of the mean.

    Args:
        mean, std: shapes that broadcast against a batch of inputs; std > 0.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, inputs: Tensor) -> Tensor:
        return (inputs.to(self.mean.dtype) - self.mean) / self.std

    def to(self, device: torch.device) -> "Normaliser":
        return Normaliser(self.mean.to(device), self.std.to(device))


class Normalised(nn.Module):
    """A trained module with its input normaliser in front: it takes raw inputs.

    `module` is the module as its builder made it, its state_dict keys unchanged.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, normaliser: Normaliser) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", normaliser.mean)
        self.register_buffer("std", normaliser.std)

    def forward(self, inputs: Tensor) -> Any:
        return self.module((inputs.to(self.mean.dtype) - self.mean) / self.std)


def fit(batches: Iterable[Any]) -> Normaliser | None:
    """The normaliser of these inputs, or None where they are to be left alone.

    Images (4 dimensions or more) get one mean and standard deviation per channel; vectors one pair per
    feature, or one for all when the features' ranges are alike (90 % over 10 % quantile of their standard
    deviations at most 10); everything else one pair. A constant feature is divided by 1. Left alone are inputs that
    are not one tensor, integers other than bytes, booleans, and inputs that have mean 0 and std 1 already.

    Args:
        batches: batches of inputs, shape (rows, ...), read once; moments are summed in float64.

    Source: LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.3.
    """
    count, mean, square = 0, torch.zeros(()), torch.zeros(())  # square: sum of squared distances from the mean
    dimensions, is_byte = 0, False
    for inputs in batches:
        if not isinstance(inputs, Tensor) or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
            return None
        dimensions, is_byte = inputs.ndim, inputs.dtype == torch.uint8
        if is_byte and dimensions < 2:
            return None
        over = _others(dimensions)
        values = inputs.double()
        rows = values.numel() // max(1, values[:1].sum(over, keepdim=True).numel())
        here = values.mean(over, keepdim=True)
        apart = (values - here).square().sum(over, keepdim=True)
        total = count + rows
        square = square + apart + (here - mean).square() * (count * rows / total)
        mean = mean + (here - mean) * (rows / total)
        count = total
    if count == 0:
        return None
    std = (square / count).sqrt()
    std = torch.where(std > 1e-8 * mean.abs(), std, 0.0)
    if dimensions == 2 and _alike(std):
        std = (std.square().mean() + (mean - mean.mean()).square().mean()).sqrt().reshape(1, 1)
        mean = mean.mean().reshape(1, 1)
    standard = bool((mean.abs() <= CLOSE).all()) and bool(((std - 1).abs() <= CLOSE).all())
    if standard and not is_byte:
        return None
    std = torch.where(std > 0, std, 1.0)
    dtype = torch.get_default_dtype()
    return Normaliser(mean.to(dtype), std.to(dtype))


def cast_only(inputs: Tensor) -> Normaliser | None:
    """The identity: None, or for bytes a cast to torch's default dtype."""
    if inputs.dtype != torch.uint8:
        return None
    return Normaliser(torch.zeros(()), torch.ones(()))


def starts_normalised(module: nn.Module, inputs: Any) -> bool:
    """Whether the first layer that `module` runs is a normalisation of its own.

    That is one of torch's norm layers, or a module whose class is called Normalize or Normalise. Runs one forward
    pass without gradients in evaluation mode; the module is left as it was.
    """
    first: list[nn.Module] = []

    def note(layer: nn.Module, _: Any) -> None:
        first.append(layer)

    leaves = [m for m in module.modules() if not list(m.children())]
    hooks = [leaf.register_forward_pre_hook(note) for leaf in leaves]
    modes = [(m, m.training) for m in module.modules()]
    buffers = [(b, b.clone()) for b in module.buffers()]
    try:
        module.eval()
        with torch.no_grad():
            module(inputs)
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
        for layer, mode in modes:
            layer.training = mode
        for hook in hooks:
            hook.remove()
    return bool(first) and (
        isinstance(first[0], NORMS) or type(first[0]).__name__.lower() in ("normalize", "normalise")
    )


def _others(dimensions: int) -> tuple[int, ...]:
    """The dimensions that a moment is taken over."""
    if dimensions >= 4:
        return (0, *range(2, dimensions))
    return (0,) if dimensions == 2 else tuple(range(dimensions))


def _alike(std: Tensor) -> bool:
    """Whether the features that vary do so on a common scale."""
    varying = std[std > 0]
    if len(varying) == 0:
        return True
    low, high = torch.quantile(varying.log(), torch.tensor([0.1, 0.9], dtype=varying.dtype))
    return bool(high <= low + math.log(10))
