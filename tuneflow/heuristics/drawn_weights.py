"""Weights that nobody has trained: they fill the bounds that torch draws them in, and none lies outside."""

import math

from torch import Tensor, nn

from tuneflow.heuristics.layers import CONVS, TRANSPOSED

ENOUGH = 64  # weights; the largest of so many drawn ones is beyond 0.9 of the bound but for 1 in 800


def looks_untrained(module: nn.Module) -> bool:
    """Return True if all linear layers and convolutions have weights as torch's own initialization draws them.

    Training takes some weights out of their bounds, which are 1 / sqrt(fan in), or all far into them.

    Example:
        >>> looks_untrained(nn.Linear(8, 8))
        True
    """
    kinds = (nn.Linear, *CONVS, *TRANSPOSED)
    weights = [part.weight for part in module.modules() if isinstance(part, kinds)]
    return sum(weight.numel() for weight in weights) >= ENOUGH and all(map(_fills_its_bounds, weights))


def _fills_its_bounds(weight: Tensor) -> bool:
    share = weight.detach().abs().max().item() * math.sqrt(weight[0].numel())
    return share <= 1.0001 and (share > 0.9 or weight.numel() < ENOUGH)
