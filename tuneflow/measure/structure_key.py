"""Structure keys: modules with the same one have the same size, multiplications and speed."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.measure.forward_pass import device_of
from tuneflow.measure.size import own_weights_of
from tuneflow.signature import name_of

NUMBERS = ("training", "zero_point")  # a mode, and of quantized outputs a number
PLAIN = (bool, int, str, torch.dtype, type(None))  # floats, such as the rate of a dropout, cost nothing


def structure_key(module: nn.Module) -> str:
    """Return a digest of everything about a module but its numbers.

    That is, of each module in it: name, class, code where it was traced, settings that are no floats, hooks; and
    shapes, dtypes and layouts of its tensors; and the device. Modules that share a tensor share it in the key too.
    """
    seen: dict[int, tuple[int, Tensor]] = {}
    lines = (line for name, part in module.named_modules() for line in _lines(name, part, seen))
    device = device_of(module)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return hashlib.sha256("\n".join(chain([kind], lines)).encode()).hexdigest()[:32]


def _lines(name: str, part: nn.Module, seen: dict[int, tuple[int, Tensor]]) -> Iterator[str]:
    """Yield lines about a module without those in it.

    Args:
        name: the module's.
        part: the module.
        seen: tensors so far with their numbers, by id; it keeps them, since unpacked weights are new objects each time.
    """
    yield f"{name}: {type(part).__module__}.{type(part).__qualname__}"
    yield from (f"{key}={value}" for key, value in sorted(_settings(part)))
    code = getattr(part, "code", None)
    yield code if isinstance(code, str) else _function(type(part).forward)
    yield repr([name_of(hook) for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values())])
    for tensor in (*own_weights_of(part), *part.buffers(recurse=False)):
        number, _ = seen.setdefault(id(tensor), (len(seen), tensor))
        yield f"{number} {_form(tensor)}"


def _form(tensor: Tensor) -> str:
    layout = tensor.stride() if tensor.layout is torch.strided else tensor.layout
    scheme = tensor.qscheme() if tensor.is_quantized else ""
    return f"{tuple(tensor.shape)} {tensor.dtype} {layout} {scheme}"


def _settings(part: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the settings of a module that can change its operations: plain values, sequences of them, functions."""
    for key, value in vars(part).items():
        if key in NUMBERS:
            continue
        if (text := _words(value)) is not None:
            yield key, text


def _words(value: Any) -> str | None:
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, tuple | list):
        parts = [_words(part) for part in value]
        return None if None in parts else repr(parts)
    return _function(value) if callable(value) and not isinstance(value, nn.Module) else None


def _function(function: Any) -> str:
    """Return a function by its name, its code and the plain values that it takes from around it."""
    inner = getattr(function, "__func__", function)
    code = "" if not hasattr(inner, "__code__") else _code(inner.__code__)
    held = [_words(cell.cell_contents) for cell in getattr(inner, "__closure__", None) or () if _is_filled(cell)]
    return f"{name_of(function)} {code} {held}"


def _code(code: CodeType) -> str:
    """Return bytecode with its names and constants, without the addresses and lines of the code inside."""
    constants = [_code(part) if isinstance(part, CodeType) else _words(part) for part in code.co_consts[1:]]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
