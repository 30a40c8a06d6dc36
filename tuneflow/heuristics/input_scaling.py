"""Input normalization: mean 0 and standard deviation 1 over the training examples."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

CLOSE = 0.05  # within this of mean 0 and std 1, data count as standardized already
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Normalizer(nn.Module):
    """Subtracts a mean and divides by a standard deviation, in the dtype of the mean; both are buffers.

    Args:
        mean: a shape that broadcasts against a batch of inputs.
        std: the same; above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs.to(self.mean.dtype) - self.mean) / self.std


class NormalizedModule(nn.Module):
    """A trained module with its input normalizer in front: it takes raw inputs.

    `module` is the module as it was, its state_dict keys unchanged; `normalizer` is a module too, such as a Normalizer.
    """

    def __init__(self, module: nn.Module, normalizer: nn.Module) -> None:
        super().__init__()
        self.module, self.normalizer = module, normalizer

    def forward(self, *inputs: Any, **named: Any) -> Any:
        several = inputs if len(inputs) > 1 else named
        return self.module(self.normalizer(inputs[0] if len(inputs) == 1 and not named else several))


class Moments:
    """Running mean and standard deviation over batches, summed in float64.

    Values of 4 dimensions or more have one pair per channel, those of 2 one per column, all others one pair.

    Attributes:
        usable: True while all batches were tensors of numbers, floating-point or bytes, with the same columns.
    """

    def __init__(self) -> None:
        self.usable, self.count, self.dimensions, self.is_byte = True, 0, 0, False
        self.mean = self._square = torch.zeros(())  # sum of squared distances from the mean

    def add(self, batch: Any) -> None:
        """Add a batch, shape (rows, ...), unless it or an earlier one is of another kind."""
        self.usable = self.usable and isinstance(batch, Tensor) and (batch.is_floating_point() or _bytes(batch))
        if not self.usable:
            return
        self.dimensions, self.is_byte = batch.ndim, batch.dtype == torch.uint8
        over = others(batch.ndim)
        values = batch.double()
        rows = values.numel() // max(1, values[:1].sum(over, keepdim=True).numel())
        here = values.mean(over, keepdim=True)
        if self.count and here.shape != self.mean.shape:
            self.usable = False
            return
        apart = (values - here).square().sum(over, keepdim=True)
        total = self.count + rows
        self._square = self._square + apart + (here - self.mean).square() * (self.count * rows / total)
        self.mean = self.mean + (here - self.mean) * (rows / total)
        self.count = total

    @property
    def std(self) -> Tensor:
        """Standard deviation; 0 for columns that are constant up to rounding."""
        std = (self._square / self.count).sqrt()
        return torch.where(std > 1e-8 * self.mean.abs(), std, 0.0)


def fit(batches: Iterable[Any]) -> Normalizer | None:
    """Fit a normalizer to inputs; None where they are to be left alone.

    Images (4 dimensions or more) get one mean and standard deviation per channel; vectors one pair per feature, or one
    for all when the features' ranges are alike (90 % over 10 % quantile of their standard deviations at most 10);
    everything else one pair. A constant feature is divided by 1. Left alone are inputs that are not one tensor,
    integers other than bytes, booleans, and inputs that have mean 0 and std 1 already.

    Args:
        batches: batches of inputs, shape (rows, ...), read once; moments are summed in float64.

    Source: LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.3.
    """
    moments = Moments()
    for inputs in batches:
        moments.add(inputs)
        if not moments.usable:
            break
    return normalizer_of(moments)


def normalizer_of(moments: Moments) -> Normalizer | None:
    """Return the normalizer from the moments of the inputs, as `fit` does."""
    if not moments.usable or moments.count == 0:
        return None
    mean, std = moments.mean, moments.std
    if moments.dimensions == 2 and _alike(std):
        std = (std.square().mean() + (mean - mean.mean()).square().mean()).sqrt().reshape(1, 1)
        mean = mean.mean().reshape(1, 1)
    if not moments.is_byte and is_standard(mean, std):
        return None
    std = torch.where(std > 0, std, 1.0)
    dtype = torch.get_default_dtype()
    return Normalizer(mean.to(dtype), std.to(dtype))


def is_standard(mean: Tensor, std: Tensor, tolerance: float = CLOSE) -> bool:
    """True if every mean is near 0 and every standard deviation near 1."""
    return bool((mean.abs() <= tolerance).all()) and bool(((std - 1).abs() <= tolerance).all())


def cast_only(inputs: Tensor) -> Normalizer | None:
    """Return the identity: None, or for bytes a cast to torch's default dtype."""
    if inputs.dtype != torch.uint8:
        return None
    return Normalizer(torch.zeros(()), torch.ones(()))


def _bytes(batch: Tensor) -> bool:
    """True for bytes that are no tokens: more than one to a row."""
    return batch.dtype == torch.uint8 and batch.ndim >= 2


def others(dimensions: int) -> tuple[int, ...]:
    """Return the dimensions that a moment of inputs with so many dimensions is taken over."""
    if dimensions >= 4:
        return (0, *range(2, dimensions))
    return (0,) if dimensions == 2 else tuple(range(dimensions))


def _alike(std: Tensor) -> bool:
    """True if the features that vary do so on a common scale."""
    varying = std[std > 0]
    if len(varying) == 0:
        return True
    low, high = torch.quantile(varying.log(), torch.tensor([0.1, 0.9], dtype=varying.dtype))
    return bool(high <= low + math.log(10))
