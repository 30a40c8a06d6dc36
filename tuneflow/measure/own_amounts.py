"""Amounts of layers, such as time or operations: each layer's own, without those of the layers in it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class OwnAmounts:
    """A block in which an amount that only grows is divided among the modules that are called.

    Args:
        module: it and the modules in it are watched; of a TorchScript module only the whole.
        read: returns the amount so far.

    Attributes:
        own: by module, in the order of the calls, its amount without that of the modules in it, over all its calls.
        shapes: by module, the shape of its outputs without the rows; empty where they are not one tensor.
        names: of all modules.
    """

    def __init__(self, module: nn.Module, read: Callable[[], float]) -> None:
        self._read = read
        inside = [("", module)] if isinstance(module, torch.jit.ScriptModule) else module.named_modules()
        self.names = {part: name for name, part in inside}
        self.own: dict[nn.Module, float] = {}
        self.shapes: dict[nn.Module, tuple[int, ...]] = {}
        self._under_way: list[list[float]] = []  # [start, amount of the modules inside], the innermost last
        self._hooks: list[Any] = []

    def __enter__(self) -> "OwnAmounts":
        for part in self.names:
            self._hooks.append(part.register_forward_pre_hook(self._begin))
            self._hooks.append(part.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def has_layers(self, part: nn.Module) -> bool:
        """True if a module in this one was called."""
        return any(inner in self.own for inner in part.modules() if inner is not part)

    def _begin(self, part: nn.Module, _: Any) -> None:
        self.own.setdefault(part, 0.0)
        self._under_way.append([self._read(), 0.0])

    def _end(self, part: nn.Module, _: Any, outputs: Any) -> None:
        start, inside = self._under_way.pop()
        amount = self._read() - start
        self.own[part] += amount - inside
        self.shapes[part] = tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else ()
        if self._under_way:
            self._under_way[-1][1] += amount
