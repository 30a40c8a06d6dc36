"""A decorator for the methods that run a study: Ctrl-C ends them without a traceback that tells nothing."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tuneflow.study.signals import FINISHED

P = ParamSpec("P")
R = TypeVar("R")
OURS = ("tuneflow", "torch")  # packages whose frames tell a user nothing


def short_interrupts(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that ends with a short KeyboardInterrupt.

    After a first Ctrl-C, which finished the epoch, its traceback begins where the method was called: there is no place
    of interest below. Otherwise it is whole, as it shows where something hangs. A notebook shows one line of either.
    """

    @wraps(method)
    def run(*args: P.args, **given: P.kwargs) -> R:
        try:
            return method(*args, **given)
        except KeyboardInterrupt as error:
            line = in_a_line(error)
            error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]  # which IPython asks for
            raise error.with_traceback(None if finished(error) else error.__traceback__) from None

    return run


def finished(error: KeyboardInterrupt) -> bool:
    """True if a first Ctrl-C raised it, after the epoch."""
    return error.args == (FINISHED,)


def in_a_line(error: KeyboardInterrupt) -> str:
    """Return an interrupt in a line: what was finished, or the last line of the user's own that was under way."""
    if finished(error):
        return f"KeyboardInterrupt: {FINISHED}; run the cell again and it goes on from here"
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    own = [frame for frame in frames if str(frame.f_globals.get("__name__", "")).split(".")[0] not in OURS]
    where = f" in line {own[-1].f_lineno} of {own[-1].f_code.co_name}" if own else ""
    return f"KeyboardInterrupt{where}"
