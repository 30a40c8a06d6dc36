"""Structure keys: modules with the same one have the same size, multiplications and speed."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import chain
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneflow.measure.forward_pass import device_of
from tuneflow.measure.size import own_weights_of
from tuneflow.signature import name_of

NUMBERS = {*vars(nn.Module()), "zero_point"}  # what a line says otherwise, or that costs nothing
COSTLY = ("scale_factor", "output_ratio", "norm_type")  # other floats of torch's layers, such as rates, cost nothing
PLAIN = (bool, int, float, complex, str, bytes, range, slice, torch.dtype, torch.device, type(None))
DEEPEST = 4  # values within values that are looked at


def structure_key(module: nn.Module) -> str:
    """Return a digest of everything about a module but its numbers: weights, and rates of torch's own layers.

    That is, of each module in it: name, class, code, settings, hooks; and shapes, dtypes and layouts of its tensors;
    and the device. Modules that share a tensor share it in the key too.
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
    yield _words([*part._forward_pre_hooks.values(), *part._forward_hooks.values()])
    for tensor in (*own_weights_of(part), *part.buffers(recurse=False)):
        number, _ = seen.setdefault(id(tensor), (len(seen), tensor))
        yield f"{number} {_form(tensor)}"


def _form(tensor: Tensor) -> str:
    layout = tensor.stride() if tensor.layout is torch.strided else tensor.layout
    scheme = tensor.qscheme() if tensor.is_quantized else ""
    return f"{tuple(tensor.shape)} {tensor.dtype} {layout} {scheme}"


def _settings(part: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the settings of a module that can change its operations; of an own one a rate can, too."""
    for key, value in vars(part).items():
        rate = isinstance(value, float) and _is_of_torch_or_ours(part) and key not in COSTLY
        if key not in NUMBERS and not rate:
            yield key, _words(value)


def _words(value: Any, depth: int = 0) -> str:
    """Return a value in words without addresses: plain ones, tensors' forms, and what others hold of these."""
    value = value.item() if isinstance(value, np.generic) else value
    inner = partial(_words, depth=depth + 1)
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        return _form(value)
    if inspect.isroutine(value):
        return _function(value, depth)
    if depth >= DEEPEST or isinstance(value, type):
        return name_of(value)
    if isinstance(value, tuple | list):
        return repr([*map(inner, value)])
    if isinstance(value, set | frozenset):
        return repr(sorted(map(inner, value)))
    if isinstance(value, nn.Module) or _is_of_torch_or_ours(value):
        return name_of(type(value))
    facts = value if isinstance(value, Mapping) else _facts_of(value)
    return f"{name_of(type(value))} {[(str(key), inner(fact)) for key, fact in facts.items()]}"


def _facts_of(value: Any) -> dict[str, Any]:
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, **value.keywords}
    slots = {field.name: getattr(value, field.name, None) for field in fields(value)} if is_dataclass(value) else {}
    return {**slots, **getattr(value, "__dict__", {})}


def _is_of_torch_or_ours(value: Any) -> bool:
    return type(value).__module__.split(".")[0] in ("torch", "tuneflow")


def _function(function: Any, depth: int = 0) -> str:
    """Return a function by its name, its code, its defaults and the values that it takes from around it."""
    inner = getattr(function, "__func__", function)
    if not isinstance(inner, FunctionType) or depth >= DEEPEST:
        return name_of(function)
    held = [cell.cell_contents for cell in inner.__closure__ or () if _is_filled(cell)]
    values = _words([held, inner.__defaults__, inner.__kwdefaults__], depth + 1)
    return f"{name_of(function)} {_code(inner.__code__)} {values}"


def _code(code: CodeType) -> str:
    """Return bytecode with its names and constants, without the addresses and lines of the code inside."""
    constants = [_code(part) if isinstance(part, CodeType) else _words(part) for part in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
