"""Exceptions to train a trial again after, by the names of their classes, which mean the same in every process."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tuneflow.errors import Diverged, in_one_line
from tuneflow.validate import check_whole, items_of, shown

ONCE = 1

Retries = Mapping[type[BaseException], int] | Iterable[type[BaseException]] | type[BaseException] | None


def retries_of(value: Any) -> dict[str, int]:
    """Return the `retries` of a runtime as number of retries by name of class, in their order.

    Args:
        value: a class of exceptions, several of them, or a dict of class to number; None for none.

    Raises:
        TypeError: it is none of these.
        ValueError: a number is not a whole one >= 1, or no retry can help against an exception.
    """
    if value is None:
        return {}
    if isinstance(value, type):
        value = (value,)
    kinds = items_of(value)
    if kinds is None:
        raise _needs_classes(value)
    counts = value.items() if isinstance(value, Mapping) else [(kind, ONCE) for kind in kinds]
    return {_name_to_retry(kind): _count(kind, count) for kind, count in counts}


def _name_to_retry(kind: Any) -> str:
    if not isinstance(kind, type) or not issubclass(kind, BaseException):
        raise _needs_classes(kind)
    if issubclass(kind, KeyboardInterrupt):
        raise ValueError("Runtime: retries cannot name KeyboardInterrupt, by which Ctrl-C ends the run; leave it out.")
    if issubclass(kind, Diverged):
        raise ValueError(
            "Runtime: retries cannot name Diverged, since a trial that is trained again diverges again; leave it out,"
            " and search lower learning rates."
        )
    return name_of_class(kind)


def _count(kind: type, count: Any) -> int:
    return check_whole(f"Runtime: retries[{kind.__name__}]", count, otherwise="for no retry")


def _needs_classes(got: Any) -> TypeError:
    hint = f"; write {type(got).__name__}" if isinstance(got, BaseException) else ""
    return TypeError(
        "Runtime: retries needs classes of exceptions, such as retries=ConnectionError or"
        f" retries={{torch.OutOfMemoryError: 2}}, got {shown(got)}{hint}."
    )


def name_of_class(kind: type) -> str:
    """Return module and name of a class; those of a script's own classes are the same in its worker processes."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}.{kind.__name__}"  # a class that went to a worker by value has no other name


OUT_OF_MEMORY = name_of_class(torch.OutOfMemoryError)


def names_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of an exception's class and of those it derives from.

    Every error that means that memory ran out, on whatever device, counts as a torch.OutOfMemoryError too.
    """
    names = [name_of_class(kind) for kind in type(error).__mro__ if kind is not object]
    if is_out_of_memory(error) and OUT_OF_MEMORY not in names:
        names.insert(1, OUT_OF_MEMORY)
    return tuple(names)


def is_out_of_memory(error: BaseException) -> bool:
    """True if the error means that memory ran out, on the device or on the host."""
    words = in_one_line(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in words
        or "not enough memory" in words
    )
