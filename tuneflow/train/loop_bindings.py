"""The variables that a training loop has for its epochs and for the objects that it names as its state."""

import dis
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

from torch import nn


class EpochNumbers:
    """The numbers of the epochs to train, as `run.epochs(...)` returns them.

    Args:
        numbers: the numbers.
        code: of the loop's function.

    Attributes:
        wrapped: the loop iterates over zip, enumerate or the like of the numbers, not over the numbers.
    """

    def __init__(self, numbers: Iterator[int], code: CodeType | None) -> None:
        self._numbers, self._code, self.wrapped = numbers, code, False

    def __iter__(self) -> "EpochNumbers":
        caller = sys._getframe(1)
        if caller.f_code is self._code:  # else in Python code of another's, such as a progress bar
            self.wrapped |= dis.opname[caller.f_code.co_code[caller.f_lasti]] != "GET_ITER"
        return self

    def __next__(self) -> int:
        return next(self._numbers)


class Bindings:
    """The variables that hold the named objects of a loop before its first pass.

    Args:
        frame: of the loop's function.
        things: the named objects.
    """

    def __init__(self, frame: FrameType, things: Mapping[str, Any]) -> None:
        local = frame.f_locals
        self._holders = {name: [key for key in local if local[key] is thing] for name, thing in things.items()}
        self._things = dict(things)

    def moved(self, frame: FrameType) -> dict[str, list[str]]:
        """Return the variables of each named object that no variable holds any longer, each bound to another one."""
        local = frame.f_locals
        return {
            name: holders
            for name, holders in self._holders.items()
            if holders and all(_replaces(local.get(key, self._things[name]), self._things[name]) for key in holders)
        }


def _replaces(now: Any, thing: Any) -> bool:
    """True if `now` is another object than `thing`, and none that wraps it, as a compiled module does."""
    parts = [*now.modules()] if isinstance(now, nn.Module) else [now, *getattr(now, "__dict__", {}).values()]
    return all(part is not thing for part in parts)
