"""Teachers: trained modules that another one learns from."""

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tuneflow.compress.tensor_digest import tensor_digest
from tuneflow.compress.winner import record_of
from tuneflow.nested import leaves


class Teacher:
    """A trained module in evaluation mode, without gradients, and a digest that tells it apart from others.

    Args:
        module: takes raw inputs; a copy of it is kept.

    Attributes:
        digest: class and hash of all its tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self._rows = tuple(record_of(module).rows)
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        self.digest = f"{type(module).__name__} {_digest_of(module)}"

    @property
    def module(self) -> nn.Module:
        """The module."""
        return self._module

    @property
    def rows(self) -> tuple[str, ...]:
        """Digests of the rows that it was trained on, as far as they are known."""
        return self._rows


def teacher_of(value: Any) -> Teacher:
    """Return a Result, a module or a Teacher as a Teacher.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, Teacher):
        return value
    if not isinstance(value, nn.Module) and not isinstance(value, type) and callable(getattr(value, "model", None)):
        value = value.model()
    if not isinstance(value, nn.Module):
        raise TypeError(
            "Distill: teacher needs a Result, such as study.best, or a trained module that takes raw inputs, got"
            f" {type(value).__name__}."
        )
    return Teacher(value)


def _digest_of(module: nn.Module) -> str:
    entries = (*module.state_dict().items(), *module.named_buffers())
    return tensor_digest((name, tensor) for name, value in entries for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of an entry of a state_dict, which holds several in a quantized layer."""
    for tensor in leaves(value):
        yield tensor.int_repr() if tensor.is_quantized else tensor
