"""The exceptions a program may want to catch.

    TuneflowError
    ├── StudyError              a study cannot do what was asked
    │   ├── NothingFinished     no trial has a score yet
    │   └── FingerprintError    the folder holds a study made with other settings
    ├── StoreError              a folder or file cannot be read or written
    │   └── CheckpointError     a saved state is missing or damaged
    └── Diverged                training reached a loss that is not finite

Bad arguments raise ValueError or TypeError where they are given, before any training.
"""

import difflib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, TypeVar

__all__ = [
    "CheckpointError",
    "Diverged",
    "FingerprintError",
    "NothingFinished",
    "StoreError",
    "StudyError",
    "TuneflowError",
]


ExceptionT = TypeVar("ExceptionT", bound=Exception)
STRANGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
)  # that a value of other kind leads to


class TuneflowError(Exception):
    """Base of every error that tuneflow raises on purpose, except for bad arguments.

    Its message may quote a folder or an exception of others, so it is printable.
    """

    def __str__(self) -> str:
        return printable_lines(super().__str__())


class StudyError(TuneflowError):
    """A study cannot do what was asked of it."""


class NothingFinished(StudyError):
    """A result was asked for before any trial had one."""


class FingerprintError(StudyError):
    """The folder holds a study that was made with other settings."""


class StoreError(TuneflowError):
    """A study's folder, or a file in it, cannot be read or written."""


class CheckpointError(StoreError):
    """A saved state is missing, or its bytes are not those that were written."""


class Diverged(TuneflowError):
    """Training reached a loss that is not finite.

    Args:
        epoch: the epoch, counted from 1.
        step: the optimizer step within that epoch, counted from 1; 0 when evaluation found it.
        last: the last finite training loss, or None when there was none.
    """

    def __init__(self, epoch: int, step: int, last: float | None) -> None:
        self.epoch, self.step, self.last = epoch, step, last
        where = f"step {step}" if step else "evaluation"
        before = "no finite loss before" if last is None else f"last finite loss {last:.6g}"
        super().__init__(f"loss not finite at epoch {epoch}, {where} ({before})")

    def __reduce__(self) -> tuple[type["Diverged"], tuple[int, int, float | None]]:
        return Diverged, (self.epoch, self.step, self.last)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint ` Did you mean "x"?` where a known word is close, else an empty string."""
    word, known = str(word), list(known)
    plain = word.removeprefix("valid_").removeprefix("val_").removeprefix("eval_")  # as other libraries have it
    begun = [name for name in known if len(plain) > 2 and name.startswith(plain)]
    close = begun[:1] or difflib.get_close_matches(plain, known, n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def warn(text: str) -> None:
    """Issue a UserWarning that points at the calling line outside of tuneflow; its text is made printable."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package_of(frame) == "tuneflow":
        level, frame = level + 1, frame.f_back
    warnings.warn(printable_lines(text), UserWarning, stacklevel=level)


def ending_where(error: BaseException, raised: ExceptionT) -> ExceptionT:
    """Return `raised`, to be raised `from None`: its traceback ends where `error` occurred in the user's own code.

    So there is one traceback with the user's line in it, and the last line is the message of `raised`. Where no line of
    the user's was running, the traceback ends where `raised` is raised.
    """
    traceback = error.__traceback__
    while traceback is not None and _package_of(traceback.tb_frame) in ("tuneflow", "torch"):
        traceback = traceback.tb_next
    return raised.with_traceback(traceback)


@contextmanager
def exceptions_only(what: str, kind: Callable[[str], Exception] = StudyError) -> Iterator[None]:
    """A block of user code in which SystemExit, as argparse raises it, or the like becomes an error of `kind`.

    So it ends what was tried, and not the program without a word. KeyboardInterrupt passes.

    Args:
        what: opens the message, such as `the searcher`.
        kind: makes the error of its message.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ending_where(error, kind(f"{what} raised {in_one_line(error)}")) from None


@contextmanager
def in_use(what: str, *more: type[Exception]) -> Iterator[None]:
    """A block that uses part of a saved file, in which whatever it leads to becomes a CheckpointError.

    A ValueError passes: it names what does not fit the code that the file is used with. So does a RuntimeError, which
    may be a device's that is out of memory.

    Args:
        what: opens the message, such as `the state after epoch 3`.
        more: classes of errors that do not pass, in addition.
    """
    strange: tuple[type[Exception], ...] = (*STRANGE, *more)
    try:
        yield
    except strange as error:
        raise ending_where(error, CheckpointError(f"{what} cannot be used ({in_one_line(error)}).")) from None


def in_one_line(error: BaseException) -> str:
    """Return class and message of an exception, in printable characters: `SystemExit: 3`."""
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be shown)"
    return printable_lines(f"{type(error).__name__}: {message}".removesuffix(": "))


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".")[0]


def printable(text: str) -> str:
    r"""Return text in one line, with what is not printable written as an escape: terminals show it and do not obey it.

    Neither are characters of no width printable, nor those that turn the direction of what follows.

    Example:
        >>> print(printable("red\x1b[31m"))
        red\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def printable_lines(text: str) -> str:
    """Return text of several lines with each one printable; tabs stay."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def with_printable_text(record: logging.LogRecord) -> Literal[True]:
    """Make the text of a log record printable; a filter that every record passes."""
    if not (text := record.getMessage()).isprintable():
        record.msg, record.args = printable_lines(text), ()
    return True


def plural(count: int, thing: str) -> str:
    """Return a count with its noun: `1 trial`, `3 trials`, `5,000 rows`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    """Return names for a message: `a, b, c`, at most twelve of them."""
    words = list(words)
    more = f", ... ({len(words)} in all)" if len(words) > 12 else ""
    return (", ".join(words[:12]) or "nothing") + more
