"""Blocks that leave a module as it was: its modes and buffers are restored."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.heuristics.restoring import overwrite


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """A block after which the modes and buffers of `module` are restored; buffers that appeared in it are gone.

    Lazy layers keep the shapes that they took in it.
    """
    parts = list(module.modules())
    modes = [part.training for part in parts]
    held = [(part, dict(part._buffers.items())) for part in parts]
    copies = [(b, b.detach().clone()) for _, own in held for b in own.values() if b is not None and not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in copies:
                overwrite(buffer, before)
        for part, buffers in held:
            _put_back(part, buffers)
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _put_back(part: nn.Module, buffers: dict[str, Tensor | None]) -> None:
    now = dict(part._buffers.items())  # of a scripted module they are no dict
    for name in now.keys() - buffers.keys():
        delattr(part, name)
    for name, buffer in buffers.items():
        if now.get(name) is not buffer:
            part._buffers[name] = buffer


@contextmanager
def looked_at(module: nn.Module) -> Iterator[None]:
    """A block without gradients in which `module` is in evaluation mode; its modes and buffers are restored."""
    with unchanged(module), torch.no_grad():
        module.eval()
        yield
