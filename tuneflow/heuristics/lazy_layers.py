"""Lazy layers: they take their shapes from the first batch that passes through them."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from tuneflow.errors import ending_where
from tuneflow.heuristics.unchanged import unchanged
from tuneflow.nested import mapped


def lazy_tensors(module: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that have no shape yet."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in named if is_lazy(tensor)]


def copy_of(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module, whose lazy buffers torch does not copy."""
    lazy = [buffer for buffer in module.buffers() if isinstance(buffer, UninitializedBuffer)]
    blank: Any = UninitializedBuffer
    return copy.deepcopy(module, {id(b): blank(device=b.device, dtype=b.dtype) for b in lazy})


def materialize(module: nn.Module, inputs: Any) -> None:
    """Run `module` so that its lazy layers take their shapes; modes and buffers are restored.

    The weights are drawn from torch's global generator. The passes are without gradients: in evaluation mode, in
    training mode for layers that run there only, and in torch's default dtype for a module that takes no bytes.

    Args:
        module: nothing is done for one without lazy layers.
        inputs: a few rows as the data have them.

    Raises:
        ValueError: a lazy layer does not run.
    """
    error: Exception | None = None
    for training, rows in _attempts(inputs):
        if not lazy_tensors(module):
            return
        with unchanged(module), torch.no_grad():
            try:
                module.train(training)(rows)
            except Exception as problem:
                error = problem
    if left := lazy_tensors(module):
        why = "" if error is None else f" ({type(error).__name__}: {error})"
        refusal = ValueError(
            f'"{left[0]}" is lazy, and gets its shape from the first batch that passes through its layer; none did'
            f"{why}, so no optimizer can train it. Give the layer its sizes, or leave it out."
        )
        raise (refusal if error is None else ending_where(error, refusal)) from None


def _attempts(inputs: Any) -> Iterable[tuple[bool, Any]]:
    for rows in (inputs, mapped(_as_float, inputs)):
        yield False, rows
        yield True, rows


def _as_float(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
