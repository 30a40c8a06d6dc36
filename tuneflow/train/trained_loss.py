"""TrainedLoss: the loss of a session as something that is trained, with the part of it that a state has to hold."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.heuristics.restoring import restore_tensors
from tuneflow.heuristics.unchanged import unchanged
from tuneflow.model import tensors_of


class TrainedLoss:
    """The parameters of a loss that is a module, and what training changes in it; nothing for any other loss.

    Attributes:
        module: the loss if it is a module, else None.
    """

    def __init__(self, loss: Any) -> None:
        self.module = loss if isinstance(loss, nn.Module) else None
        if lazy := [name for name, tensor in self._tensors.items() if is_lazy(tensor)]:
            raise ValueError(f'the loss needs parameters of a fixed shape, got a lazy "{lazy[0]}"; give it its size.')
        self._start = {} if self.module is None else {n: _content(t) for n, t in self._tensors.items()}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        named = () if self.module is None else self.module.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {} if self.module is None else tensors_of(self.module)

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters, and the other tensors that differ from those the loss was made with.

        What only its arguments set, such as class weights, is left out: a fork may set it otherwise.
        """
        trained = self.parameters
        return {
            name: tensor
            for name, tensor in self._tensors.items()
            if name in trained or name not in self._start or not _same(self._start[name], _content(tensor))
        }

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a state; buffers may have another shape there, or be missing here."""
        if self.module is not None:
            restore_tensors(self.module, self._tensors | dict(saved))


@contextmanager
def evaluating(loss: Any) -> Iterator[None]:
    """A block in which a loss that is a module is in evaluation mode; its modes and buffers are restored."""
    with unchanged(loss) if isinstance(loss, nn.Module) else nullcontext():
        if isinstance(loss, nn.Module):
            loss.eval()
        yield


def _content(tensor: Tensor) -> Any:
    """Return what tells whether a tensor has changed: of a parameter, which may be large, the sum of its elements."""
    if isinstance(tensor, nn.Parameter):
        return tuple(tensor.shape), float(tensor.detach().cpu().double().sum())
    return tensor.detach().clone()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other) if not isinstance(one, Tensor) and not isinstance(other, Tensor) else False
