"""The contents of a variable as plain values by their place in it, to see whether an epoch has changed them."""

import enum
import hashlib
import io
import random
import types
from array import array
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

PLAIN = (bool, int, float, complex, str, bytes, bytearray, array, type(None), np.generic, enum.Enum)
CONTAINERS = (list, tuple, dict, set, frozenset, deque)
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
WITHOUT = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, io.IOBase)
WATCHERS = ("tqdm", "tensorboard", "tensorboardX", "wandb", "mlflow", "rich", "logging", "torch.utils.tensorboard")
LOADS = (DataLoader, Dataset, Sampler)  # they may fill caches; what counts are their generators
DEEP, LONG, FEW, BYTES = 4, 1000, 10, 2**24

Contents = dict[str, Hashable]


class TensorIdentity(NamedTuple):
    """The value of a large tensor, which tells whether it has changed, but not whether it equals another."""

    number: int
    storage: int
    version: int


class Known:
    """The objects that a loop has named, and all tensors in them.

    Args:
        things: the objects.
        run: the loop's run, which is none of its variables.
    """

    def __init__(self, things: list[Any], run: Any) -> None:
        self._ids, self._storages = {id(run)}, set[int]()
        self._kept = things  # so that no other object gets their ids
        for thing in things:
            self._add(thing, DEEP)

    def has(self, thing: Any) -> bool:
        """True for a named object, for a part of one, and for a tensor that shares memory with one."""
        return id(thing) in self._ids or (isinstance(thing, Tensor) and _storage(thing) in self._storages)

    def _add(self, thing: Any, depth: int) -> None:
        if isinstance(thing, (*PLAIN, *WITHOUT)) or id(thing) in self._ids or depth < 0:
            return
        self._ids.add(id(thing))
        if isinstance(thing, Tensor):
            self._storages.add(_storage(thing))
        elif isinstance(thing, nn.Module):
            for part in (*thing.modules(), *thing.parameters(), *thing.buffers()):
                self._ids.add(id(part))
                if isinstance(part, Tensor):
                    self._storages.add(_storage(part))
        else:
            for _, inner in _inside(thing):
                self._add(inner, depth - 1)


def contents_by_place(value: Any, known: Known) -> Contents:
    """Return what a value holds: a comparable value for each place in it, such as `.bad` or `[0]`.

    Tensors count by their identity and the number of their changes, but for small ones; what is named, functions,
    classes, files and iterators do not count.

    Args:
        value: anything.
        known: what a loop has named.
    """
    return dict(_leaves("", value, known, DEEP, False))


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots too."""
    slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    return {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})


def _leaves(place: str, value: Any, known: Known, depth: int, loads: bool) -> Iterator[tuple[str, Hashable]]:
    if isinstance(value, GENERATORS):
        yield place, _state(value)
    elif isinstance(value, PLAIN):
        if not loads and value is not None:  # None is where nothing is yet
            yield place, _plain(value)
    elif known.has(value) or isinstance(value, WITHOUT) or _watches(value) or depth < 0:
        return
    elif isinstance(value, Tensor | np.ndarray):
        if not loads:
            yield place, _numbers(value)
    else:
        loads = loads or isinstance(value, LOADS)
        if isinstance(value, CONTAINERS) and not loads:
            yield place, len(value)
        for inner, part in _inside(value):
            yield from _leaves(place + inner, part, known, depth - 1, loads)


def _inside(value: Any) -> list[tuple[str, Any]]:
    """Return the parts of a container or object by their place; of a long container the first and the last."""
    if isinstance(value, set | frozenset):
        return [("", tuple(sorted(map(repr, value))))] if len(value) <= LONG else []
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", inner) for key, inner in _ends(list(value.items()))]
    if isinstance(value, list | tuple | deque):
        return [(f"[{number}]", inner) for number, inner in _ends(list(enumerate(value)))]
    if isinstance(value, nn.Module):
        return _of_module(value)
    if hasattr(value, "__next__"):
        return []
    if _saves(value):
        with suppress(Exception):
            return [(f"[{key!r}]", inner) for key, inner in value.state_dict().items()]
    return [(f".{name}", inner) for name, inner in attributes_of(value).items()]


def _of_module(module: nn.Module) -> list[tuple[str, Any]]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    own = {name: part for name, part in vars(module).items() if name not in _TORCHS}
    return [(f".{name}", part) for name, part in {**tensors, **own}.items()]


def _saves(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _ends(items: list[Any]) -> list[Any]:
    return items if len(items) <= LONG else items[:FEW] + items[-FEW:]


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _watches(value: Any) -> bool:
    """True for objects that only show or record what happens, such as progress bars."""
    module = type(value).__module__
    return any(module == name or module.startswith(f"{name}.") for name in WATCHERS)


def _plain(value: Any) -> Hashable:
    plain = value.item() if isinstance(value, np.generic) else value
    return type(value).__name__, repr(plain)


def _numbers(value: Tensor | np.ndarray[Any, Any]) -> Hashable:
    """Return a value that differs where the numbers of a tensor or array do."""
    if isinstance(value, np.ndarray):
        raw = value.tobytes() if value.nbytes <= BYTES and value.dtype != object else b""
        return str(value.dtype), value.shape, hashlib.blake2b(raw, digest_size=8).hexdigest()
    if value.device.type == "cpu" and value.numel() <= FEW and value.layout == torch.strided:
        return str(value.dtype), tuple(value.shape), repr(value.detach().tolist())
    return TensorIdentity(id(value), _storage(value), 0 if value.is_inference() else value._version)


def _storage(tensor: Tensor) -> int:
    with suppress(Exception):  # tensors without one, as sparse ones are
        return tensor.untyped_storage().data_ptr() or id(tensor)
    return id(tensor)


def _state(generator: Any) -> Hashable:
    if isinstance(generator, torch.Generator):
        state: Any = generator.get_state().tolist()
    elif isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
    else:
        state = generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()
    return hashlib.blake2b(repr(state).encode(), digest_size=8).hexdigest()


_TORCHS = {*vars(nn.Module()), "training"}
