"""The outputs that a module gave while an own loss was computed, so that metrics need no second forward pass."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tuneflow.data.data import Batch
from tuneflow.nested import leaves, mapped


def loss_and_outputs(
    loss_of: Callable[[nn.Module, Batch], Tensor], module: nn.Module, batch: Batch, wanted: bool = True
) -> tuple[Tensor, Any]:
    """Return the loss of a batch and the module's outputs for its inputs.

    The module is called again only if `loss_of` did not call it exactly once on these inputs.

    Args:
        loss_of: the loss of (module, batch).
        module: called by `loss_of` as it likes.
        batch: inputs and targets.
        wanted: False for no outputs, which are None then.
    """
    if not wanted:
        return loss_of(module, batch), None
    expected, outputs = leaves(batch[0]), []

    def note(_: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        given = leaves((args, kwargs))
        if given and all(any(one is other for other in expected) for one in given):
            outputs.append(result)

    handle = module.register_forward_hook(note, with_kwargs=True)
    try:
        loss = loss_of(module, batch)
    finally:
        handle.remove()
    if len(outputs) != 1:
        return loss, module(batch[0])
    return loss, mapped(Tensor.detach, outputs[0]) if _has_gradients(outputs[0]) else outputs[0]


def _has_gradients(outputs: Any) -> bool:
    return any(tensor.requires_grad for tensor in leaves(outputs))
