"""Precision and memory layout of training."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tuneflow.errors import did_you_mean
from tuneflow.validate import is_flag, is_word, shown

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LOWERED = (torch.bfloat16, torch.float16)


def check_precision(precision: Any, device: torch.device) -> None:
    """Raise unless `precision` is one of `DTYPES` or "auto", and the device computes in it."""
    known = 'precision needs to be "fp32", "bf16", "fp16" or "auto"'
    if not isinstance(precision, str):
        near = next((f' Did you mean "{name}"?' for name, dtype in DTYPES.items() if dtype is precision), "")
        raise TypeError(f"Runtime: {known}, got {shown(precision)}.{near}")
    if precision not in (*DTYPES, "auto"):
        raise ValueError(f'Runtime: {known}, got "{precision}".{did_you_mean(precision.lower(), [*DTYPES, "auto"])}')
    if DTYPES.get(precision) in LOWERED:
        try:
            with torch.autocast(device.type, DTYPES[precision]):
                pass
        except RuntimeError as error:
            raise ValueError(f'Runtime: device "{device}" does not compute in {precision}: {error}') from None


def layout_of(channels_last: Any) -> bool | str:
    """Return this if it is True, False or "auto"; raise TypeError otherwise."""
    if is_word(channels_last, ("auto",)):
        return str(channels_last)
    if not is_flag(channels_last):
        raise TypeError(f'Runtime: channels_last needs to be True, False or "auto", got {shown(channels_last)}.')
    return bool(channels_last)


def label(precision: str, channels_last: bool) -> str:
    """Return the label of scores, such as `bf16 with channels_last`; empty for the default."""
    words = [*([] if precision == "fp32" else [precision]), *(["channels_last"] if channels_last else [])]
    return " with ".join(words)


def autocast(precision: str, device: torch.device, on: bool) -> AbstractContextManager[Any]:
    """Return a block in `precision`, or with `on=False` one in float32 inside of such a block."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision], enabled=on)


def in_channels_last(thing: Any) -> Any:
    """Convert to channels_last: the 4-dimensional weights of a module, in place, or a 4-dimensional tensor."""
    if isinstance(thing, nn.Module):
        for tensor in [*thing.parameters(), *thing.buffers()]:
            if not is_lazy(tensor) and tensor.ndim == 4:
                tensor.data = _strided(tensor.data)
        return thing
    if isinstance(thing, Tensor) and thing.ndim == 4:
        return thing.contiguous(memory_format=torch.channels_last)
    return thing


def _strided(weight: Tensor) -> Tensor:
    """Return `weight` in channels_last, with its strides even where one input channel leaves a choice."""
    like = torch.empty_like(weight, memory_format=torch.channels_last)
    return weight if weight.stride() == like.stride() else like.copy_(weight)
