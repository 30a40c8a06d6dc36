"""The gain of one linear layer: the largest singular value of the map from its inputs to its outputs."""

import math

import torch
from torch import Tensor, nn

from tuneflow.heuristics.lanczos import lanczos
from tuneflow.seeds import torch_stream

ROUNDS, LEAST = 30, 5  # of Lanczos, each of which keeps a vector of the inputs' size
KEPT = 2**26  # values that it may keep
CLOSE = 1e-3  # relative, within which outputs of a sum are the sum of outputs


def linear_gain(layer: nn.Module, inputs: Tensor) -> float | None:
    """Return the spectral norm of a layer on inputs of a shape; None where its outputs are not linear in them.

    A constant, as of a bias, counts as linear. Each round of Lanczos passes forward and backward through the layer.

    Args:
        layer: in evaluation mode.
        inputs: one row; its values do not matter.
    """
    draw = torch_stream("linear gain")
    one, other = (torch.randn(inputs.shape, generator=draw).to(inputs) for _ in range(2))
    if not _additive(layer, one, other):
        return None
    with torch.enable_grad():
        leaf = torch.zeros_like(inputs).requires_grad_()
        outputs = layer(leaf * 1)
        if not outputs.requires_grad:
            return None
        constant = outputs.detach()

        def product(vector: Tensor) -> Tensor:
            with torch.no_grad():
                image = layer(vector.reshape(inputs.shape)) - constant
            (back,) = torch.autograd.grad(outputs, leaf, image, retain_graph=True)
            return back.flatten()

        rounds = max(LEAST, min(ROUNDS, KEPT // inputs.numel()))
        return math.sqrt(max(0.0, lanczos(product, one.flatten(), rounds)[0]))


def _additive(layer: nn.Module, one: Tensor, other: Tensor) -> bool:
    """True if the layer returns one tensor, for a sum of changes the sum of their outputs' changes."""
    with torch.no_grad():
        images = [layer(x.clone()) for x in (one + other, one, other, torch.zeros_like(one))]
    if not all(isinstance(image, Tensor) and image.is_floating_point() for image in images):
        return False
    of_sum, of_one, of_other, constant = images
    difference = (of_sum + constant - of_one - of_other).norm()
    tolerance = max(CLOSE, 8 * torch.finfo(one.dtype).eps)
    return bool(difference <= tolerance * (of_sum - constant).norm())
