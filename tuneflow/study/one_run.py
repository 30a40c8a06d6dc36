"""A decorator for the methods that run a study: one of them at a time."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tuneflow.errors import StudyError

P = ParamSpec("P")
R = TypeVar("R")
_running: set[int] = set()  # the studies of this process that are, by id


def one_at_a_time(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that raises StudyError while the same study runs, in another thread or around a callback."""

    @wraps(method)
    def run(*args: P.args, **given: P.kwargs) -> R:
        study = args[0]
        if id(study) in _running:
            raise StudyError(
                f"{method.__name__}: this study is running already, in another thread or around this callback; wait"
                " until that has ended, or run a second Study on the same folder."
            )
        _running.add(id(study))
        try:
            return method(*args, **given)
        finally:
            _running.discard(id(study))

    return run
