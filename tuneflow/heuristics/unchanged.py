"""Blocks that leave a module as it was: its modes and buffers are restored."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """A block after which the modes and buffers of `module` are restored."""
    parts = list(module.modules())
    modes = [part.training for part in parts]
    named = [(part, name, b) for part in parts for name, b in part._buffers.items() if b is not None]
    copies = [buffer.detach().clone() for _, _, buffer in named]
    try:
        yield
    finally:
        with torch.no_grad():
            for (part, name, buffer), before in zip(named, copies, strict=True):
                part._buffers[name] = buffer.copy_(before)
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


@contextmanager
def looked_at(module: nn.Module) -> Iterator[None]:
    """A block without gradients in which `module` is in evaluation mode; its modes and buffers are restored."""
    with unchanged(module), torch.no_grad():
        module.eval()
        yield
