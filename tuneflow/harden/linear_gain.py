"""The gain of one linear layer: the largest singular value of the map from its inputs to its outputs."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tuneflow.heuristics.lanczos import lanczos
from tuneflow.seeds import torch_stream

ROUNDS, LEAST = 30, 5  # of Lanczos, each of which keeps a vector of the inputs' size
KEPT = 2**26  # values that it may keep
CLOSE = 1e-3  # relative, within which two results are the same


def linear_gain(layer: nn.Module, inputs: Tensor) -> float | None:
    """Return the spectral norm of a layer on inputs of a shape; None where its outputs are not linear in them.

    A constant, as of a bias, counts as linear. Each round of Lanczos passes forward and backward through the layer.

    Args:
        layer: in evaluation mode.
        inputs: one row; linear is what is so for changes of its values' size, or of the constant's where larger.
    """
    with torch.enable_grad():
        leaf = torch.zeros_like(inputs).requires_grad_()
        outputs = layer(leaf * 1)
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or not outputs.requires_grad:
        return None
    draw = torch_stream("linear gain")
    one, other = (torch.randn(inputs.shape, generator=draw).to(inputs) * max(1.0, _size(inputs)) for _ in range(2))
    changes = _Changes(layer, leaf, outputs)
    unit = _size(changes.back(torch.randn(outputs.shape, generator=draw).to(outputs)))  # about the gain
    if not unit:  # a constant, which tells nothing where there are no weights, as of rounding between two levels
        return None if _size(changes(one)) or not [*layer.parameters()] else 0.0
    length = max(_size(one), _size(outputs.detach()) / unit)  # so that the constant leaves digits enough
    scaled = replace(changes, length=length, unit=unit)
    one, other = one / _size(one), other / _size(one)
    if not (scaled.add_up(one, other) and scaled.have_gradient(one)):
        return None
    rounds = max(LEAST, min(ROUNDS, KEPT // inputs.numel()))
    return unit * math.sqrt(max(0.0, lanczos(scaled.there_and_back, one.flatten(), rounds)[0]))


@dataclass(frozen=True)
class _Changes:
    """The map from changes of a layer's inputs to those of its outputs, in units that keep squares within the type.

    Attributes:
        layer: in evaluation mode.
        leaf: inputs of 0.
        outputs: of the layer, with graph, at the leaf.
        length: the unit of inputs.
        unit: that of the map, outputs over inputs.
    """

    layer: nn.Module
    leaf: Tensor
    outputs: Tensor
    length: float = 1.0
    unit: float = 1.0

    def __call__(self, change: Tensor) -> Tensor:
        with torch.no_grad():
            image: Tensor = self.layer(change.reshape(self.leaf.shape) * self.length) - self.outputs
        return image / (self.length * self.unit)

    def back(self, change: Tensor) -> Tensor:
        """Return what the transpose of the gradient makes of a change of outputs, flat."""
        (back,) = torch.autograd.grad(self.outputs, self.leaf, change / self.unit, retain_graph=True)
        return back.flatten()

    def there_and_back(self, change: Tensor) -> Tensor:
        """Return the map's transpose times the map times a change."""
        return self.back(self(change))

    def add_up(self, one: Tensor, other: Tensor) -> bool:
        """True if the change of a sum is the sum of changes."""
        of_sum = self(one + other)
        return _size(of_sum - self(one) - self(other)) <= self.close * _size(of_sum)

    def have_gradient(self, one: Tensor) -> bool:
        """True if the gradient is the map's, as it is not of rounding."""
        squared = float(self(one).norm()) ** 2
        return abs(float(one.flatten() @ self.there_and_back(one)) - squared) <= self.close * squared

    @property
    def close(self) -> float:
        """The relative distance within which two results are the same."""
        return max(CLOSE, 8 * torch.finfo(self.leaf.dtype).eps)


def _size(values: Tensor) -> float:
    """Return the largest absolute value; 0 of none."""
    return float(values.abs().max()) if values.numel() else 0.0
