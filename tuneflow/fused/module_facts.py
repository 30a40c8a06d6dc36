"""The facts of a module that a trace freezes: classes, shapes and attributes, which lanes need to have in common."""

import dataclasses
import enum
import functools
import hashlib
import types
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from tuneflow.fused.dropout import LAYERS
from tuneflow.fused.refusal import CannotFuse

_INTERNAL = {*vars(nn.Module())} - {"training"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_WHOLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def facts_of(module: nn.Module, *, modules_by_class: bool = True) -> dict[str, Hashable]:
    """Return the facts that two modules need to have in common to be trained as one program.

    Classes, shapes, which tensors are one, and every attribute; but no tensor's values, and not the probability of
    dropout layers, which may differ.

    Args:
        module: not modified.
        modules_by_class: compare modules that are attributes, but no submodules, by class; else by identity.
    """
    frozen = _Comparable({})
    kinds = {f"class of {name or 'the module'}": frozen(type(inner)) for name, inner in module.named_modules()}
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    shapes = {name: (*_layout(tensor), first.setdefault(id(tensor), name)) for name, tensor in tensors}
    return kinds | shapes | attributes_of(module, dropout=False, modules_by_class=modules_by_class)


def attributes_of(module: nn.Module, *, dropout: bool = True, modules_by_class: bool = True) -> dict[str, Hashable]:
    """Return every attribute of every submodule that is no tensor of its own, by dotted name, made comparable.

    Args:
        module: not modified.
        dropout: include the probability of dropout layers.
        modules_by_class: as in `facts_of`.
    """
    own = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
    frozen = _Comparable(own, modules_by_class)
    found = {}
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            if name in _INTERNAL or (name == "p" and not dropout and type(inner) in LAYERS):
                continue
            found[f"{path}.{name}".lstrip(".")] = frozen(value)
        hooks = [hook for kind in _HOOKS for hook in vars(inner)[kind].values()]
        if hooks:
            found[f"hooks of {path or 'the module'}"] = frozen(hooks)
    return found


def comparable(value: Any) -> Hashable:
    """Return a hashable form of any object; equal for two of the same class or function with the same contents.

    Modules that it holds are equal to themselves only.
    """
    return _Comparable({}, modules_by_class=False)(value)


def check_alike(facts: Sequence[dict[str, Hashable]]) -> None:
    """Raise CannotFuse unless all facts are equal to the first lane's.

    Raises:
        CannotFuse: they differ; the message names where.
    """
    for lane, other in enumerate(facts):
        if other == facts[0]:
            continue
        name = next(name for name in {**facts[0], **other} if facts[0].get(name) != other.get(name))
        mine, first = other.get(name), facts[0].get(name)
        if isinstance(mine, tuple) and mine[:1] == ("array",):
            raise CannotFuse(f'lanes differ in "{name}", which is neither a parameter nor a buffer')
        raise CannotFuse(f'lanes differ in "{name}": {mine!r} in lane {lane}, {first!r} in lane 0')


class _Comparable:
    """Converts values to hashable ones: equal if a forward that reads them does the same.

    Objects that cannot be compared by value are compared by identity.

    Args:
        own: id to name of the module's own tensors, whose values do not matter.
        modules_by_class: compare modules by class, as their tensors are compared apart; else by identity.
    """

    def __init__(self, own: Mapping[int, str], modules_by_class: bool = True) -> None:
        self._own, self._modules_by_class = own, modules_by_class
        self._open: list[int] = []  # what is being looked into

    def __call__(self, value: Any) -> Hashable:
        if isinstance(value, _WHOLE):
            return value if value == value else "nan"
        if id(value) in self._own:
            return "own", self._own[id(value)]
        if id(value) in self._open:
            return "itself"
        self._open.append(id(value))
        made = self._content(value)
        self._open.pop()
        return made

    def _content(self, value: Any) -> Hashable:
        if isinstance(value, Tensor | np.ndarray):
            return _array(value)
        if isinstance(value, dict):
            return "dict", tuple((self(key), self(part)) for key, part in value.items())
        if isinstance(value, list | tuple):
            return type(value).__name__, *map(self, value)
        if isinstance(value, set | frozenset):
            return "set", tuple(sorted(map(repr, map(self, value))))
        if isinstance(value, nn.Module):
            return ("module", _named(type(value))) if self._modules_by_class else _Identity(value)
        if isinstance(value, functools.partial):
            return "partial", self(value.func), self(value.args), self(value.keywords)
        return self._code(value)

    def _code(self, value: Any) -> Hashable:
        """Functions, methods, classes and objects."""
        if isinstance(value, types.MethodType):
            return "method", self(value.__func__), self(value.__self__)
        if isinstance(value, types.FunctionType):
            holds = [_content(cell) for cell in value.__closure__ or ()]
            given = [part for part in (holds, value.__defaults__, value.__kwdefaults__) if part]
            return (_named(value), self(given)) if given else _named(value)
        if isinstance(value, type):
            own = vars(value).items() if "<locals>" in value.__qualname__ else ()  # made anew by a builder
            functions = [part for name, part in own if isinstance(part, types.FunctionType) and name != "__init__"]
            holds = [part for part in functions if part.__closure__]
            return (_named(value), self(holds)) if holds else _named(value)
        if isinstance(value, types.BuiltinFunctionType | types.ModuleType | np.ufunc):
            return _named(value)
        if isinstance(value, np.generic):
            return self(value.item())
        if isinstance(value, enum.Enum):
            return _named(type(value)), value.name
        if isinstance(value, RemovableHandle):
            return _named(type(value))
        if isinstance(value, weakref.ref):
            return "weak", self(value())
        return self._object(value)

    def _object(self, value: Any) -> Hashable:
        kind: Any = type(value)
        plain = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
        if hasattr(value, "__dict__") and (plain or dataclasses.is_dataclass(value)):
            return _named(kind), self(vars(value))
        return _Identity(value)


class _Identity:
    """Equal to another that holds the same object; keeps it alive."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        return f"{self._value!r}, which cannot be compared"


def _named(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    return f"{getattr(value, '__module__', None) or ''}.{name}".lstrip(".")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _layout(tensor: Tensor) -> tuple[Hashable, ...]:
    shape = None if is_lazy(tensor) else tuple(tensor.shape)
    return shape, tensor.dtype, tensor.device, tensor.requires_grad


def _array(value: Any) -> Hashable:
    kind, shape = str(value.dtype), tuple(value.shape)
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return "array", kind, shape, hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
