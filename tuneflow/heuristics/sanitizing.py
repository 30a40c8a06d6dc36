"""Sanitizers: modules that clean raw inputs before the normalizer, so that small changes of an attack get lost."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

HALVES = (torch.float16, torch.bfloat16)
FEW = 9  # tensors, of whose median an exported program has every step


class SanitizerModule(nn.Module):
    """Base of sanitizers: the shape stays, bytes become numbers of torch's default dtype.

    Attributes:
        sanitizes: True marks a sanitizer, also in a class that is not derived from this one.
        has_gradient: False if the derivative is 0 almost everywhere.
        kind: its name among plain values.
    """

    sanitizes: ClassVar[bool] = True
    has_gradient: ClassVar[bool] = True
    kind: ClassVar[str] = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make it again, plain values."""
        raise NotImplementedError(f"{type(self).__name__} needs a property settings")

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.settings.items())


class RoundedInputs(SanitizerModule):
    """Rounds each value to the nearest of evenly spaced levels, of two that are as near to the higher one.

    Args:
        low: the lowest level; values below become this.
        high: the highest level; values above become this.
        levels: number of levels. A float, as what costs nothing is in the key of a measured speed otherwise.
    """

    has_gradient = False
    kind = "rounding"

    def __init__(self, low: float, high: float, levels: float) -> None:
        super().__init__()
        self.low, self.high, self.levels = float(low), float(high), float(levels)

    @property
    def settings(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "levels": self.levels}

    def forward(self, inputs: Tensor) -> Tensor:
        values, steps = _floating(inputs), self.levels - 1
        if values.dtype in HALVES:  # which neither hold the products nor tell many levels apart
            return self.forward(values.float()).to(values.dtype)
        share = (values - self.low) / (self.high - self.low)
        number = torch.floor(share.clamp(0, 1) * steps + 0.5)
        return (self.low * (steps - number) + self.high * number) / steps


class FilteredInputs(SanitizerModule):
    """Replaces each pixel by the median of the square around it, channel by channel; the border is reflected.

    Args:
        size: side of the square, odd.
    """

    kind = "median"

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"the median of a square of pixels needs a side that is an odd number, got {size}.")
        self.size = size

    @property
    def settings(self) -> dict[str, Any]:
        return {"size": self.size}

    def forward(self, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        padded = functional.pad(_floating(inputs), [self.size // 2] * 4, mode="reflect")
        offsets = [(row, column) for row in range(self.size) for column in range(self.size)]
        return median_of([padded[..., row : row + height, column : column + width] for row, column in offsets])


class SanitizedInputs(nn.Module):
    """Sanitizers one after the other, and the normalizer behind them.

    Args:
        sanitizers: of raw inputs.
        normalizer: takes what the last of them returns; None for none.
    """

    def __init__(self, sanitizers: Sequence[nn.Module], normalizer: nn.Module | None) -> None:
        super().__init__()
        self.sanitizers, self.normalizer = nn.ModuleList(sanitizers), normalizer

    def forward(self, inputs: Tensor) -> Tensor:
        for sanitizer in self.sanitizers:
            inputs = sanitizer(inputs)
        if self.normalizer is not None:
            inputs = self.normalizer(inputs)
        return inputs


class StraightThrough(nn.Module):
    """A sanitizer whose gradient is that of the identity.

    Args:
        sanitizer: gives the outputs, in the shape of its inputs.

    Source: Athalye, Carlini, Wagner, Obfuscated gradients give a false sense of security, 2018.
    """

    def __init__(self, sanitizer: nn.Module) -> None:
        super().__init__()
        self.sanitizer = sanitizer

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = self.sanitizer(inputs)
        passed: Tensor = _Replaced.apply(inputs, outputs)  # type: ignore[no-untyped-call]
        return passed


class _Replaced(torch.autograd.Function):
    """Gives the second argument, and the gradient to the first."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG004
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None


def median_of(planes: Sequence[Tensor]) -> Tensor:
    """Return the median of an odd number of tensors, element by element.

    The least and the greatest of more than half of them cannot be the median, so they are left out, one tensor comes
    in, and so on. That is faster than to sort along a new dimension, and any export format has minima and maxima.

    Args:
        planes: all of one shape.
    """
    if len(planes) > FEW and torch.compiler.is_exporting():  # a program of hundreds of steps takes a minute to write
        return torch.stack(list(planes)).sort(0).values[len(planes) // 2]
    count = len(planes) // 2 + 2
    window, rest = list(planes[:count]), list(planes[count:])
    while len(window) > 2:
        window = _without_extremes(window)
        if rest:
            window.append(rest.pop())
    return window[0]


def _without_extremes(planes: list[Tensor]) -> list[Tensor]:
    """Return one tensor fewer at each end of the order, element by element."""
    least, *others = planes
    larger = []
    for plane in others:
        larger.append(torch.maximum(least, plane))
        least = torch.minimum(least, plane)
    greatest, *rest = larger
    smaller = []
    for plane in rest:
        smaller.append(torch.minimum(greatest, plane))
        greatest = torch.maximum(greatest, plane)
    return smaller


def sanitizer_of(kind: str, settings: Mapping[str, Any]) -> SanitizerModule:
    """Return a sanitizer of this kind.

    Raises:
        ValueError: there is none, or it does not take these settings.
    """
    kinds: dict[str, type[SanitizerModule]] = {each.kind: each for each in (RoundedInputs, FilteredInputs)}
    if kind not in kinds:
        raise ValueError(f'inputs are sanitized by "{kind}", which this tuneflow does not have.')
    try:
        return kinds[kind](**settings)
    except TypeError as error:
        raise ValueError(f'inputs cannot be sanitized by "{kind}" with {dict(settings)}: {error}.') from None


def with_sanitizers(normalizer: nn.Module | None, sanitizers: Sequence[SanitizerModule]) -> SanitizedInputs:
    """Return a normalizer with sanitizers before it, which take the place of those of the same kind that it has."""
    before: list[nn.Module] = []
    if isinstance(normalizer, SanitizedInputs):
        before, normalizer = list(normalizer.sanitizers), normalizer.normalizer
    replaced = {type(each) for each in sanitizers}
    return SanitizedInputs([*(each for each in before if type(each) not in replaced), *sanitizers], normalizer)


def sanitizers_in(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a module that are sanitizers."""
    return [part for part in module.modules() if getattr(part, "sanitizes", False)]


def straight_through(module: nn.Module) -> nn.Module:
    """Return a module with the same tensors and hooks, in which the gradient of every sanitizer is the identity's."""
    module = getattr(module, "_orig_mod", module)  # of a compiled one, whose program would stay as it is
    if getattr(module, "sanitizes", False):
        return StraightThrough(module)
    if not sanitizers_in(module):
        return module
    copied = copy.copy(module)
    vars(copied)["_modules"] = {name: part and straight_through(part) for name, part in module._modules.items()}
    return copied


def _floating(inputs: Tensor) -> Tensor:
    return inputs if inputs.is_floating_point() else inputs.to(torch.get_default_dtype())
