"""The tensors of K modules as one: stacked, but for frozen parameters that are equal in all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.fused.refusal import CannotFuse


class StackedTensors:
    """Parameters and buffers by name, each (K, *shape); or (*shape), once for all lanes, where it is shared.

    Args:
        modules: alike.

    Attributes:
        shared: names of the frozen parameters that all modules hold with the same values, in the module's order.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        if any(map(is_lazy, [*modules[0].parameters(), *modules[0].buffers()])):
            raise CannotFuse("the module has lazy parameters; a batch through it gives them their shapes")
        named = [_tensors(module) for module in modules]
        frozen = [name for name, p in modules[0].named_parameters() if not p.requires_grad and len(modules) > 1]
        self.shared = [name for name in frozen if all(torch.equal(own[name], named[0][name]) for own in named)]
        self.of = {
            name: first.clone() if name in self.shared else torch.stack([own[name] for own in named])
            for name, first in named[0].items()
        }

    def check(self, module: nn.Module) -> None:
        """Raise CannotFuse unless a lane may hold `module`: its shared tensors need to be equal."""
        own = _tensors(module)
        for name in self.shared:
            if not torch.equal(own[name], self.of[name]):
                raise CannotFuse(f'the frozen parameter "{name}" has other values than that of the other lanes')

    def put(self, lane: int, module: nn.Module) -> None:
        """Copy the values of `module` into a lane."""
        for name, tensor in _tensors(module).items():
            if name not in self.shared:
                self.of[name][lane] = tensor

    def unload(self, lane: int, module: nn.Module) -> None:
        """Copy a lane's values into `module`."""
        for name, tensor in _tensors(module).items():
            if name not in self.shared:
                tensor.copy_(self.of[name][lane])


@dataclass(frozen=True)
class ProgramInputs:
    """The tensors that a program reads.

    Attributes:
        trained: parameters, each (K, *shape).
        others: buffers, and frozen parameters that differ; each (K, *shape). Buffers are changed as forward does.
        shared: frozen parameters that all lanes have, each (*shape).
        leaves: the tensors of a batch, each (K, rows, ...).
        masks: dropout's, each (K, *shape): 0 or 1 / (1 - p).
    """

    trained: Sequence[Tensor]
    others: Sequence[Tensor]
    shared: Sequence[Tensor]
    leaves: Sequence[Tensor] = ()
    masks: Sequence[Tensor] = ()

    @property
    def flat(self) -> list[Tensor]:
        return [*self.trained, *self.others, *self.shared, *self.leaves, *self.masks]

    @property
    def dims(self) -> tuple[int | None, ...]:
        """The axis of the lanes in each of `flat`; None where all lanes share a tensor."""
        stacked, batch = len(self.trained) + len(self.others), len(self.leaves) + len(self.masks)
        return (0,) * stacked + (None,) * len(self.shared) + (0,) * batch

    def lane(self, lane: int) -> list[Tensor]:
        """Return `flat` of one lane, as views."""
        return [whole if views is None else views[lane] for whole, views in self._views]

    @cached_property
    def _views(self) -> list[tuple[Tensor, tuple[Tensor, ...] | None]]:
        return [(whole, None if axis is None else whole.unbind()) for whole, axis in zip(self.flat, self.dims)]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
