"""Checks that trainers, models and configurations can be sent to a worker process."""

import inspect
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import ORIGINAL_DIR  # type: ignore[attr-defined]
from types import FunctionType, MethodType
from typing import Any

from tuneflow.errors import StudyError
from tuneflow.execute.workers.pickling import SharedObject, TensorPickler, pack
from tuneflow.train.job import Job


def share(trainer: Any, model: Any) -> SharedObject:
    """Pickle trainer and model for every worker.

    Raises:
        TypeError: something in them cannot be sent; the message names the attribute.
        StudyError: the script that runs is no file that a worker could import.
    """
    _check_main()
    SPAWN.check_shared(trainer, model)
    return SharedObject((trainer, model))


@dataclass(frozen=True)
class Transport:
    """A way to send objects to workers.

    Attributes:
        pickler: the class that pickles; its arguments are those of TensorPickler.
        dry: the class that pickles to nowhere, and raises for an object that a worker could not load.
        by_value: functions and classes travel with what they use, else they are found by their names.
    """

    pickler: Callable[..., Any]
    dry: Callable[..., Any]
    by_value: bool

    def obstacle(self, value: Any) -> Exception | None:
        """The error that prevents an object from being sent; None if it can be."""
        try:
            self.dry(io.BytesIO(), lambda _: None).dump(value)
        except Exception as error:
            return error
        return None

    def check(self, value: Any, what: str) -> None:
        """Raise TypeError if `value` cannot be sent; the message names the innermost part that cannot.

        Args:
            value: the object.
            what: its name, which opens the message.
        """
        error = self.obstacle(value)
        if error is not None:
            path, culprit, error = _culprit(value, what, error, set(), self) or (what, value, error)
            raise TypeError(f"{path} {_words(culprit, error, path == what, self)}") from None

    def check_shared(self, trainer: Any, model: Any) -> None:
        """Raise TypeError if trainer or model cannot be sent; the message names the attribute."""
        for value in (trainer, model):
            self.check(value, type(value).__name__)

    def pickled_job(self, job: Job) -> bytes:
        """Pickle config, seed, replica, trial and fold of a job: all that a worker needs beside trainer and model.

        Raises:
            TypeError: the configuration holds something that cannot be sent; the message names it.
        """
        self.check(job.config, "configuration")
        values = (job.config, job.seed, job.replica, job.trial, job.fold)
        return pack(values, keep_device=True, small=math.inf, pickler=self.pickler).body


def _check_main() -> None:
    path = getattr(sys.modules["__main__"], "__file__", None)
    if _main_is_imported() and path is not None and not os.path.exists(os.path.join(ORIGINAL_DIR, path)):
        raise StudyError(
            f"Runtime: workers import the script that runs, and {path!r} is no file; write it into one, or leave out"
            " workers."
        )


class _DryPickler(TensorPickler):
    """Finds out if a value can be pickled and found again by a worker."""

    def reducer_override(self, thing: Any) -> Any:
        of_main = getattr(thing, "__module__", "") == "__main__" and hasattr(thing, "__qualname__")
        if of_main and not _main_is_imported():
            raise _NotImportable
        return super().reducer_override(thing)


class _NotImportable(Exception):
    """The value is defined in a `__main__` that workers do not import."""


SPAWN = Transport(TensorPickler, _DryPickler, by_value=False)


def _main_is_imported() -> bool:
    """True if a new process imports this one's `__main__`, by multiprocessing's rule."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return not (spec.name == "__main__" or spec.name.endswith(".__main__"))
    path = getattr(main, "__file__", None)
    return path is not None and os.path.splitext(os.path.basename(path))[0] != "ipython"


def _culprit(
    value: Any, path: str, error: Exception, seen: set[int], way: Transport
) -> tuple[str, Any, Exception] | None:
    """Return path, value and error of the innermost part that cannot be sent; None if the parts form a cycle."""
    seen.add(id(value))
    circle = False
    for step, inner in _uses(value) if way.by_value and isinstance(value, FunctionType) else _parts(value):
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


def _uses(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the globals, closure and defaults of a function, with their names in a path."""
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
    qualname = str(getattr(culprit, "__qualname__", type(culprit).__qualname__))
    outer, name = qualname.split(".<locals>")[0], qualname.split(".")[-1]
    named = "is" if is_whole else f"holds {name}, which is"
    lost = "where a worker process cannot find it"
    if name == "<lambda>" and not way.by_value:
        verb = "is" if is_whole else "holds"
        return f"{verb} a lambda, which cannot be sent to a worker process; define it with def at the top of a module."
    if isinstance(error, _NotImportable):
        place = "at a prompt, in a notebook or in a __main__.py"
        return f"{named} defined {place}, {lost}; write it into a module and import it from there."
    if outer != qualname and not way.by_value:
        return f"{named} defined inside {outer}, {lost}; define it at the top of a module."
    what = "" if is_whole else f"holds {_described(culprit)}, which "
    way_out = "make it where it is first used, and leave it out in __getstate__"
    return f"{what}cannot be sent to a worker process ({type(error).__name__}: {error}); {way_out}."


def _described(culprit: Any) -> str:
    kind = type(culprit)
    return f"a {kind.__name__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"
