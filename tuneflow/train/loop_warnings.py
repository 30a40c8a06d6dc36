"""Warnings about a training loop, each issued once in a process however many trials it trains."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from tuneflow.errors import warn

_issued: WeakKeyDictionary[Callable[..., Any], set[str]] = WeakKeyDictionary()  # by the loop's function


def warn_once(function: Callable[..., Any], text: str) -> None:
    """Warn of something in a loop's function, unless the same was said of it before.

    Args:
        function: the generator function of `(config, run)`.
        text: the warning.
    """
    issued = _issued.setdefault(function, set())
    if text not in issued:
        warn(text)
        issued.add(text)  # not where warnings are errors: the next one is to be raised too
