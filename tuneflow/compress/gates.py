"""Gates: a factor of 1 on every channel of every row, whose gradient tells what the channel is worth."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from tuneflow.compress.group import Group, Member

Named = dict[str, Any]
Hook = Callable[[nn.Module, tuple[Any, ...], Named], tuple[tuple[Any, ...], Named]]


class Gates:
    """A block in which the layers that use the channels of some groups get them times a gate of 1.

    There is a gate for each row of the batch, so that one backward pass gives the gradient of every row on its own.

    Args:
        module: in evaluation mode.
        groups: of this module.
        rows: number of rows of the batches within the block.

    Attributes:
        values: the gates of each group, shape (rows, width).
    """

    def __init__(self, module: nn.Module, groups: Sequence[Group], rows: int) -> None:
        first = next(module.parameters())
        self._module, self._groups = module, groups
        self.values = [first.new_ones(rows, group.width).requires_grad_() for group in groups]
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for group, values in zip(self._groups, self.values, strict=True):
            for member in group.users:
                layer = self._module.get_submodule(member.layer)
                self._handles.append(layer.register_forward_pre_hook(_hook(member, values), with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def gradients(self, outputs: Sequence[Tensor], vectors: Sequence[Tensor], keep: bool = False) -> list[Tensor]:
        """Return the derivative of (outputs * vectors).sum() by the gates of each group: shape (rows, width).

        Args:
            outputs: tensors that were computed within the block.
            vectors: one for each of them, in its shape.
            keep: True if there is another backward pass through the same outputs.
        """
        found = torch.autograd.grad(outputs, self.values, vectors, retain_graph=keep, allow_unused=True)
        pairs = zip(found, self.values, strict=True)
        return [torch.zeros_like(gate) if part is None else part for part, gate in pairs]


def _hook(member: Member, values: Tensor) -> Hook:
    owners = _owners(member)
    free = owners < 0

    def gated(layer: nn.Module, args: tuple[Any, ...], named: Named) -> tuple[tuple[Any, ...], Named]:
        inputs, *others = args or (named["input"],)
        gates = values[_rows_of(len(inputs), len(values))][:, owners.clamp(min=0)]
        if free.any():
            gates = gates.masked_fill(free.to(gates.device), 1.0)
        return (inputs * _as_inputs(gates, inputs, layer), *others), {k: v for k, v in named.items() if k != "input"}

    return gated


def _owners(member: Member) -> Tensor:
    """Return the channel of each element of the dimension; -1 where it is none of this group."""
    width, each = member.positions.shape
    owners = torch.full((member.size,), -1)
    owners[member.positions.flatten()] = torch.arange(width).repeat_interleave(each)
    return owners


def _rows_of(length: int, rows: int) -> Tensor:
    """Return the row of each of `length` inputs, also where a module folds others into the first dimension."""
    return torch.arange(length) * rows // length


def _as_inputs(gates: Tensor, inputs: Tensor, layer: nn.Module) -> Tensor:
    """Return gates (n, channels) in the shape of the layer's inputs, whose channels are in dimension 1 or the last."""
    behind = inputs.ndim - 2
    if isinstance(layer, nn.Linear):
        return gates.reshape(len(gates), *[1] * behind, -1)
    return gates.reshape(*gates.shape, *[1] * behind)
