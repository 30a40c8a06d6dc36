"""Checks that trainers, models and configurations can be sent to a worker process."""

import inspect
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from tuneflow.execute.workers import main_module
from tuneflow.execute.workers.by_value import pickler_by_value
from tuneflow.execute.workers.pickling import SharedObject, TensorPickler, pack
from tuneflow.train.job import Job


def share(trainer: Any, model: Any) -> SharedObject:
    """Pickle trainer and model for every worker.

    Raises:
        TypeError: something in them cannot be sent; the message names the attribute.
    """
    return SharedObject((trainer, model), SPAWN.way_of_shared(trainer, model).pickler)


@dataclass(frozen=True)
class Transport:
    """A way to send objects to workers.

    Attributes:
        pickler: the class that pickles; its arguments are those of TensorPickler.
        dry: the class that pickles to nowhere, and raises for an object that a worker could not load.
        by_value: functions and classes travel with what they use, else they are found by their names.
        otherwise: returns the way for what this one cannot send; None for no such way.
    """

    pickler: Callable[..., Any]
    dry: Callable[..., Any]
    by_value: bool
    otherwise: Callable[[], "Transport | None"] = lambda: None

    def obstacle(self, value: Any) -> Exception | None:
        """The error that prevents an object from being sent; None if it can be."""
        try:
            self.dry(io.BytesIO(), lambda _: None).dump(value)
        except Exception as error:
            return error
        return None

    def way_of(self, value: Any, what: str) -> "Transport":
        """Return the way to send `value`: this one, or the other.

        Args:
            value: the object.
            what: its name, which opens the message.

        Raises:
            TypeError: it cannot be sent; the message names the innermost part that cannot.
        """
        error = self.obstacle(value)
        if error is None:
            return self
        other = self.otherwise()
        if other is not None:
            return other.way_of(value, what)
        path, culprit, error = _culprit(value, what, error, set(), self) or (what, value, error)
        raise TypeError(f"{path} {_words(culprit, error, path == what, self)}") from None

    def way_of_shared(self, trainer: Any, model: Any) -> "Transport":
        """Return the way to send both; raise TypeError if one cannot be sent, with the name of the attribute."""
        ways = [self.way_of(value, type(value).__name__) for value in (trainer, model)]
        return next((way for way in ways if way.by_value), self)

    def pickled_job(self, job: Job) -> bytes:
        """Pickle config, seed, replica, trial and fold of a job: all that a worker needs beside trainer and model.

        Raises:
            TypeError: the configuration holds something that cannot be sent; the message names it.
        """
        way = self.way_of(job.config, "configuration")
        values = (job.config, job.seed, job.replica, job.trial, job.fold)
        return pack(values, keep_device=True, small=math.inf, pickler=way.pickler).body


class _DryPickler(TensorPickler):
    """Finds out if a value can be pickled and found again by a worker."""

    def reducer_override(self, thing: Any) -> Any:
        of_main = getattr(thing, "__module__", "") == "__main__" and hasattr(thing, "__qualname__")
        if of_main and not main_module.has(thing):
            raise _NotImportable
        return super().reducer_override(thing)


class _NotImportable(Exception):
    """The value is defined in a `__main__` that workers do not import, or where they do not see it."""


def _by_value() -> Transport | None:
    """The way of what cannot be found by its name; None where cloudpickle is not installed."""
    try:
        import cloudpickle
    except ImportError:
        return None
    return _value_transport(cloudpickle)


@cache
def _value_transport(cloudpickle: ModuleType) -> Transport:
    pickler = pickler_by_value(cloudpickle, main_module.is_found_by_name)
    return Transport(pickler, pickler, by_value=True)


SPAWN = Transport(TensorPickler, _DryPickler, by_value=False, otherwise=_by_value)


def _culprit(
    value: Any, path: str, error: Exception, seen: set[int], way: Transport
) -> tuple[str, Any, Exception] | None:
    """Return path, value and error of the innermost part that cannot be sent; None if the parts form a cycle."""
    seen.add(id(value))
    circle = False
    for step, inner in _uses(value) if way.by_value and isinstance(value, FunctionType | type) else _parts(value):
        if id(inner) in seen:
            circle = True
        elif (inside := way.obstacle(inner)) is not None:
            found = _culprit(inner, path + step, inside, seen, way)
            if found is not None:
                return found
    return None if circle else (path, value, error)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, type | FunctionType):
        return
    if isinstance(value, partial):
        yield from [(".func", value.func), (".args", value.args), (".keywords", value.keywords)]
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
    else:
        yield from ((f".{name}", inner) for name, inner in _state_of(value).items() if name[:2] != "__")


def _uses(function: FunctionType | type) -> Iterator[tuple[str, Any]]:
    """Yield the globals, closure and defaults of a function, or a class's attributes, with their names in a path."""
    if isinstance(function, type):
        yield from ((f".{name}", inner) for name, inner in vars(function).items() if name[:2] != "__")
        return
    found = inspect.getclosurevars(function)
    yield from ((f": {name}", inner) for name, inner in {**found.globals, **found.nonlocals}.items())
    yield from ((".__defaults__", inner) for inner in (function.__defaults__, function.__kwdefaults__) if inner)


def _state_of(value: Any) -> dict[str, Any]:
    try:
        state = value.__getstate__()
    except Exception:
        return dict(getattr(value, "__dict__", {}))
    found: dict[str, Any] = {}
    for part in state if isinstance(state, tuple) else (state,):
        found |= part if isinstance(part, dict) else {}
    return found


def _words(culprit: Any, error: Exception, is_whole: bool, way: Transport) -> str:
    lost = None if way.by_value else _lost(culprit, error, is_whole)
    if lost is not None:
        return f"{lost}, or install cloudpickle: python -m pip install cloudpickle"
    what = "" if is_whole else f"holds {_described(culprit)}, which "
    way_out = "make it where it is first used, and leave it out in __getstate__"
    return f"{what}cannot be sent to a worker process ({type(error).__name__}: {error}); {way_out}."


def _lost(culprit: Any, error: Exception, is_whole: bool) -> str | None:
    """Describe a function or a class that no worker finds by its name; None for anything else."""
    qualname = str(getattr(culprit, "__qualname__", type(culprit).__qualname__))
    outer, name = qualname.split(".<locals>")[0], qualname.split(".")[-1]
    named = "is" if is_whole else f"holds {name}, which is"
    hidden = "where a worker process cannot find it"
    if name == "<lambda>":
        verb = "is" if is_whole else "holds"
        return f"{verb} a lambda, which cannot be sent to a worker process; define it with def at the top of a module"
    if isinstance(error, _NotImportable):
        place = "at a prompt, in a notebook, in a __main__.py or under the main guard"
        return f"{named} defined {place}, {hidden}; write it into a module and import it from there"
    if outer != qualname:
        return f"{named} defined inside {outer}, {hidden}; define it at the top of a module"
    return None


def _described(culprit: Any) -> str:
    kind = type(culprit)
    return f"a {kind.__name__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"
