"""Sanitizers as steps of a Model: they clean raw inputs before the normalizer, in training and ever after."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Operation, Sanitize
from tuneflow.compress.step import StepRows
from tuneflow.harden.threat import Box, Threat, check_box
from tuneflow.heuristics.input_uses import uses_of
from tuneflow.validate import check_whole

MOST = 16  # bits: float32 has 24 for all levels and what is between them
LARGEST = torch.finfo(torch.float32).max / 2  # whose distance from its opposite is finite
IMAGES = 4  # dimensions of a batch of images


@dataclass(frozen=True)
class Rounding:
    """A step that rounds raw inputs to `2**bits` levels, evenly spaced from one end of their range to the other.

    What an attack changes by less than half the distance of two levels is lost for most values. The step is flat almost
    everywhere, so gradients through it are 0: an attack that takes these is weak, and tells nothing about the module.
    The attacks of `tn.harden` take the gradient straight through, as that of the identity, too.

    The trained module has it inside, before its input normalizer, which is fitted to the rows as they are. Inputs
    beyond the range become its ends. A winner that rounds already rounds so instead, after its other sanitizers; left
    alone it keeps its levels, so on data of another range it needs the step again.

    Args:
        bits: of a value, from 1 to 16.
        box: (low, high) of inputs in raw units, the lowest and the highest level; None for the range of the training
            rows.

    Raises:
        ValueError: one of these is out of its range; or, from `operations`, the box does not hold the training rows, or
            the module looks at its inputs by value.
        TypeError: from `operations`, inputs are not one tensor of floating-point numbers or bytes.

    Example:
        >>> step = Rounding(bits=1, box=(0, 16))
        >>> step.levels
        2

    Source: Xu, Evans, Qi, Feature squeezing: detecting adversarial examples in deep neural networks, 2018.
    """

    bits: int = 4
    box: Box | None = None

    sanitizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if check_whole("Rounding: bits", self.bits) > MOST:
            raise ValueError(f"Rounding: bits needs to be at most {MOST}, got {self.bits}.")
        check_box("Rounding", self.box)

    @property
    def levels(self) -> int:
        """The number of levels."""
        return 1 << int(self.bits)

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:
        """Return the rounding.

        Args:
            module: as it is made; looked at alone.
            rows: raw rows of the training part.
        """
        _check_numbers("Rounding", rows.inputs)
        low, high = rows.box()
        if self.box is not None:
            Threat(1.0, "linf", self.box).check_holds("Rounding", torch.tensor([low, high]))
            low, high = self.box
        if max(abs(low), abs(high)) > LARGEST / self.levels:
            raise ValueError(
                f"Rounding: {self.levels} levels need inputs of at most {LARGEST / self.levels:.2g} in size, got a box"
                f" from {low:.3g} to {high:.3g}, whose products are beyond float32; scale the inputs."
            )
        rounding = Sanitize("rounding", {"low": float(low), "high": float(high), "levels": float(self.levels)})
        _check_uses(module, rounding.module()(rows.inputs))
        return [rounding]


@dataclass(frozen=True)
class MedianFilter:
    """A step that replaces each pixel of raw images by the median of the square around it, channel by channel.

    It takes out changes of single pixels, and keeps edges. Beyond the border the image is reflected. Attacks take
    gradients through it as it is, which are stronger here than straight through.

    The trained module has it inside, before its input normalizer. A winner that filters already filters so instead,
    after its other sanitizers.

    Args:
        size: side of the square in pixels, odd; 1 changes nothing.

    Raises:
        ValueError: the size is not an odd number; or, from `operations`, inputs are no images, or too small ones.
        TypeError: from `operations`, inputs are not one tensor of floating-point numbers or bytes.

    Example:
        >>> MedianFilter(size=5)
        MedianFilter(size=5)

    Source: Xu, Evans, Qi, Feature squeezing: detecting adversarial examples in deep neural networks, 2018.
    """

    size: int = 3

    sanitizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if check_whole("MedianFilter: size", self.size) % 2 == 0:
            raise ValueError(f"MedianFilter: size needs to be an odd number of pixels, got {self.size}.")

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:  # noqa: ARG002
        """Return the filter.

        Args:
            module: not used.
            rows: raw rows of the training part.
        """
        _check_numbers("MedianFilter", rows.inputs)
        shape = tuple(rows.inputs.shape[1:])
        if rows.inputs.ndim != IMAGES:
            raise ValueError(f"MedianFilter: inputs need to be images of shape (channels, height, width), got {shape}.")
        if self.size // 2 >= min(shape[1:]):
            raise ValueError(
                f"MedianFilter: size needs to be at most {2 * min(shape[1:]) - 1} for images of {shape[1]} x {shape[2]}"
                f" pixels, whose border is reflected, got {self.size}."
            )
        return [Sanitize("median", {"size": int(self.size)})]


def _check_numbers(what: str, inputs: Any) -> None:
    """Raise TypeError unless inputs are one tensor of floating-point numbers or bytes, and the latter no tokens."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{what}: inputs need to be one tensor, got a {type(inputs).__name__}; leave the step out.")
    if not inputs.is_floating_point() and not (inputs.dtype == torch.uint8 and inputs.ndim > 1):
        raise TypeError(
            f"{what}: inputs need to be floating-point numbers or bytes, of which rows have several, got"
            f" {inputs.dtype} of shape {tuple(inputs.shape)}, which may be tokens; leave the step out."
        )


def _check_uses(module: nn.Module, inputs: Tensor) -> None:
    """Raise ValueError where a module looks at columns by value, as at codes of a table; of images that is its own."""
    looks = [] if inputs.ndim >= IMAGES else uses_of(module, inputs).looks
    if looks:
        raise ValueError(
            f"Rounding: the module looks at its inputs by value, with {looks[0].call}{looks[0].where}, before any layer"
            " with weights, and rounding would change those values; leave the step out, or round inside of the module"
            " what may be rounded."
        )
