"""Callbacks of a study: functions, and objects with methods for its start and end, for reports and ends of trials."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tuneflow.errors import warn
from tuneflow.history.trial import Trial
from tuneflow.train.reported_metrics import described
from tuneflow.validate import items_of, shown

OF_A_STUDY = ("on_study_start", "on_study_end")  # called with the study
OF_A_TRIAL = ("on_report", "on_trial_end")  # called with the study and a trial
METHODS = ("on_study_start", "on_report", "on_trial_end", "on_study_end")
WANTED = "a function (study, trial), or an object with any of on_study_start, on_report, on_trial_end, on_study_end"

Callback = Callable[[Any, Trial], Any] | object  # the latter with any of METHODS


def callbacks_of(callbacks: Any) -> list[Callback]:
    """Return the callbacks as a list.

    Raises:
        TypeError: it is no list, one of them is of another kind, or does not take the arguments it is called with.
    """
    listed = items_of(callbacks)
    if listed is None:
        raise TypeError(f"Study: callbacks needs to be a list, each {WANTED}, got {shown(callbacks)}.")
    for callback in listed:
        _check(callback)
    return listed


class Listeners:
    """Calls the callbacks of a study.

    An error in a callback ends the run with that error; what happened is recorded by then, so that the study goes on
    from there when it is run again.

    Args:
        study: the study, with its list `callbacks`.
    """

    def __init__(self, study: Any) -> None:
        self._study = study
        self._asked: ExitStack | None = None  # ends the study of someone who asks for trials

    def report(self, trial: Trial) -> None:
        """Call those that listen to reports."""
        self._call_all("on_report", trial)

    def trial_end(self, trial: Trial) -> None:
        """Call those that listen to ends of trials."""
        self._call_all("on_trial_end", trial)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block that begins with on_study_start and ends, however it does, with on_study_end, the last one first."""
        with ExitStack() as ends:
            for callback in self._study.callbacks:
                _call(callback, "on_study_start", self._study)
                ends.callback(_call, callback, "on_study_end", self._study)
            yield

    def begin(self) -> None:
        """Call on_study_start, unless it was called and `end` was not since."""
        if self._asked is None:
            self._asked = ExitStack()
            self._asked.enter_context(self.running())

    def end(self) -> None:
        """Call on_study_end after `begin`; otherwise do nothing."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.close()

    def _call_all(self, event: str, trial: Trial) -> None:
        for callback in self._study.callbacks:
            _call(callback, event, self._study, trial)


def _call(callback: Any, event: str, *arguments: Any) -> None:
    """Call what a callback has for an event, if it has anything."""
    function = _function_of(callback, event)
    if function is None:
        return
    try:
        function(*arguments)
    except Exception as error:
        where = "".join(f" of trial {argument.number}" for argument in arguments[1:])
        error.add_note(f"raised by the callback {described(callback)} in {event}{where}")
        raise


def _function_of(callback: Any, event: str) -> Callable[..., Any] | None:
    if _methods_of(callback):
        method: Callable[..., Any] | None = getattr(callback, event, None)
        return method
    return callback if event in OF_A_TRIAL else None


def _methods_of(callback: Any) -> list[str]:
    return [name for name in METHODS if getattr(callback, name, None) is not None]


# Checks.


def _check(callback: Any) -> None:
    methods = _methods_of(callback)
    if methods and isinstance(callback, type):
        raise TypeError(f"Study: callbacks need instances, got the class {callback.__name__}; add parentheses.")
    if not methods and not callable(callback):
        got = f"got {described(callback)}.{_near(callback)}"
        raise TypeError(f"Study: each of callbacks needs to be callable: {WANTED}; {got}")
    for name in methods or ["on_report"]:
        _check_arguments(callback, name)
    near = _near(callback) if methods else ""
    if near:
        warn(f"Study: callback {described(callback)} has a method that is never called.{near}")


def _check_arguments(callback: Any, event: str) -> None:
    function = _function_of(callback, event)
    passed = ("study",) if event in OF_A_STUDY else ("study", "trial")
    if not callable(function):
        raise TypeError(f"Study: callback {described(callback)}: {event} needs to be a method, got {shown(function)}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C
        return
    try:
        signature.bind(*passed)
    except TypeError:
        of = f"{event} of " if _methods_of(callback) else ""
        raise TypeError(
            f"Study: {of}callback {described(callback)} is called with ({', '.join(passed)}), and takes {signature}."
        ) from None


def _near(callback: Any) -> str:
    """Return a hint where a method's name is close to one of METHODS that the callback does not have."""
    missing = [name for name in METHODS if getattr(callback, name, None) is None]
    for name in dir(callback):
        if name not in METHODS and not name.startswith("_"):
            for close in difflib.get_close_matches(name, missing, n=1, cutoff=0.75):
                return f' It has {name}. Did you mean "{close}"?'
    return ""
