"""Results that are computed once for a record, however many parts of a page or rules of advice ask for them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from tuneflow.analysis.record import StudyRecord

P = ParamSpec("P")
R = TypeVar("R")


def once(function: Callable[Concatenate[StudyRecord, P], R]) -> Callable[Concatenate[StudyRecord, P], R]:
    """Return a function of a record that keeps its results with the record, until more trials have ended."""

    @wraps(function)
    def kept(record: StudyRecord, /, *args: P.args, **kwargs: P.kwargs) -> R:
        results: dict[Any, R] = vars(record).setdefault("_results", {})  # no field: it is no part of the record
        key = (function.__qualname__, record.history.ended, args, *kwargs.items())
        try:
            hash(key)
        except TypeError:  # an argument of another kind, which the function refuses
            return function(record, *args, **kwargs)
        if key not in results:
            results[key] = function(record, *args, **kwargs)
        return results[key]

    return kept
