"""Pickling by value: functions and classes that no import finds travel with what they use, each of them once."""

import copyreg
import io
from collections.abc import Callable
from functools import _lru_cache_wrapper, cached_property, lru_cache
from types import FunctionType, ModuleType
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from tuneflow.execute.workers.pickling import TensorPickler
from tuneflow.train.loop import Loop

# A function keeps its identity, as a class does: what is sent twice is one function in a worker.
_keys: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()
_functions: WeakValueDictionary[str, FunctionType] = WeakValueDictionary()


def pickler_by_value(cloudpickle: ModuleType, is_found: Callable[[Any], bool]) -> Any:
    """Return a class that pickles tensors as TensorPickler does, and functions and classes by value.

    Args:
        cloudpickle: the package of this name, or Ray's copy of it.
        is_found: True for a function, a class or a loop that a worker finds by its name; that one is not copied.
    """

    class ValuePickler(TensorPickler, cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, io.TextIOWrapper):  # cloudpickle would send a copy of what is left to be read
                raise TypeError(f"cannot pickle {type(thing).__name__!r} object")
            if isinstance(thing, cached_property):
                return _cached_property, (thing.func, thing.attrname)
            if isinstance(thing, WeakKeyDictionary):  # singledispatch has one
                return WeakKeyDictionary, (dict(thing),)
            if not _is_named(thing):
                reduced = super().reducer_override(thing)
                return reduced if reduced is not NotImplemented else cloudpickle.Pickler.reducer_override(self, thing)
            if is_found(thing) and not _is_registered(thing, cloudpickle):
                return NotImplemented
            if isinstance(thing, Loop):
                return copyreg.__newobj__, (type(thing),), dict(vars(thing))  # type: ignore[attr-defined]
            if isinstance(thing, _lru_cache_wrapper):
                return _cached, (thing.__wrapped__, thing.cache_parameters())
            reduced = cloudpickle.Pickler.reducer_override(self, thing)
            return _once(thing, reduced) if isinstance(thing, FunctionType) else reduced

    return ValuePickler


def _is_named(thing: Any) -> bool:
    """True for what the standard pickle sends as a module and a name."""
    return issubclass(type(thing), type) or isinstance(thing, FunctionType | Loop | _lru_cache_wrapper)


def _is_registered(thing: Any, cloudpickle: ModuleType) -> bool:
    """True if `cloudpickle.register_pickle_by_value` was called for its module, or for a package around it."""
    return any(f"{thing.__module__}.".startswith(f"{name}.") for name in cloudpickle.list_registry_pickle_by_value())


def _cached(function: Any, settings: dict[str, Any]) -> Any:
    return lru_cache(**settings)(function)


def _cached_property(function: Any, name: str | None) -> Any:
    result = cached_property(function)
    result.attrname = name
    return result


def _once(function: FunctionType, reduced: Any) -> Any:
    """The reduced form of a function, by which a process makes it once, whatever number of pickles has it."""
    if not isinstance(reduced, tuple):
        return reduced
    make, arguments, state, _, _, complete = reduced
    key = _keys.setdefault(function, uuid4().hex)
    _functions[key] = function
    return _function, (key, make, arguments), (key, complete, state), None, None, _complete


def _function(key: str, make: Callable[..., FunctionType], arguments: Any) -> FunctionType:
    function = _functions.get(key)
    if function is None:
        function = _functions[key] = make(*arguments)
    return function


def _complete(function: FunctionType, state: Any) -> None:
    key, complete, own_state = state
    if function not in _keys:
        complete(function, own_state)
        _keys[function] = key
