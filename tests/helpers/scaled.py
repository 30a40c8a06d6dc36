"""Modules that do not look untrained."""

import torch
from torch import nn


def scaled(module: nn.Module) -> nn.Module:
    """The module with parameters 1.5 times as large, beyond the bounds that torch draws them in."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    return module
