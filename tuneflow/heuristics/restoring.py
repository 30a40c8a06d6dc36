"""Restores the parameters and buffers of a module, also buffers that change shape or appear while it is trained."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from tuneflow.errors import printable


def overwrite(tensor: Tensor, value: Tensor) -> None:
    """Give `tensor` the elements, shape and dtype of `value`; it stays the same object, on its device."""
    if tensor.shape == value.shape and tensor.dtype == value.dtype:
        tensor.copy_(value)
    else:
        tensor.data = value.detach().to(tensor.device, copy=True)


class Misfit(NamedTuple):
    """A tensor that cannot be restored: its name, and its shape as saved and in the module, or "nothing".

    Where the shapes agree, they stand with what differs: their dtypes.
    """

    name: str
    saved: str
    live: str


def restore_tensors(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Give every parameter and buffer of `module` its saved value; tensors stay the same objects.

    A buffer takes the saved shape and dtype, one that the module does not have yet is registered, and a lazy parameter
    takes its shape.

    Args:
        module: as its builder makes it.
        saved: every parameter and buffer by name.

    Raises:
        ValueError: a parameter has another shape or other kind of numbers, or something is there on one side only. The
            module is as it was.
    """
    if wrong := misfit(module, saved):
        raise ValueError(f'"{wrong.name}" is {wrong.saved} in the state and {wrong.live} in the module that is built.')
    live, parameters = _named(module), dict(module.named_parameters())
    device = next((tensor.device for tensor in live.values()), None)
    with torch.no_grad():
        for name, value in saved.items():
            if name in parameters:
                _settle(parameters[name], value).copy_(value)
            elif name in live:
                overwrite(_settle(live[name], value), value)
            else:
                _register(owner_of(module, name), name.rpartition(".")[2], value.detach().to(device, copy=True))


def misfit(module: nn.Module, saved: Mapping[str, Tensor]) -> Misfit | None:
    """Return the first tensor that `restore_tensors` cannot restore; None if it can restore all."""
    live, parameters = _named(module), dict(module.named_parameters())
    for name in sorted({**live, **saved}):
        if name in saved and name in live and (is_lazy(live[name]) or name not in parameters):
            continue
        shapes = [_shape(side.get(name)) for side in (saved, live)]
        if shapes[0] != shapes[1] and not (name not in live and _can_hold(module, name)):
            return Misfit(printable(name), *shapes)
        if name in parameters and not same_numbers(saved[name], live[name]):
            return Misfit(name, *(f"{shapes[0]} of {side[name].dtype}" for side in (saved, live)))
    return None


def same_numbers(saved: Tensor, live: Tensor) -> bool:
    """True if `live` can hold the numbers of `saved`, up to rounding: both are real, or of one dtype."""
    return saved.dtype == live.dtype or (saved.is_floating_point() and live.is_floating_point())


def holders(module: nn.Module) -> dict[str, str]:
    """Return the class of the submodule that holds each buffer, by the buffer's name."""
    return {name: type(owner_of(module, name)).__qualname__ for name, _ in module.named_buffers()}


def owner_of(module: nn.Module, name: str) -> nn.Module | None:
    """Return the submodule that holds a parameter or buffer of this name, or could hold it; None if there is none."""
    return dict(module.named_modules()).get(name.rpartition(".")[0])


def _named(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _can_hold(module: nn.Module, name: str) -> bool:
    """True if a buffer of this name can be registered."""
    owner, own = owner_of(module, name), name.rpartition(".")[2]
    return owner is not None and (own in owner._buffers or not hasattr(owner, own))


def _shape(tensor: Tensor | None) -> str:
    if not isinstance(tensor, Tensor):
        return "nothing" if tensor is None else f"a {type(tensor).__name__}"
    return "lazy" if is_lazy(tensor) else str(tuple(tensor.shape))


def _settle(tensor: Tensor, value: Tensor) -> Tensor:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        tensor.materialize(value.shape)
    return tensor


def _register(owner: nn.Module | None, name: str, value: Tensor) -> None:
    if owner is not None:
        owner.register_buffer(name, value, persistent=name not in owner._non_persistent_buffers_set)
