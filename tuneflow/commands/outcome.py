"""The outcome of a command: its exit status, and one line where it could not be carried out."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

from tuneflow.analysis.score_text import printable
from tuneflow.errors import TuneflowError

FAILED, INTERRUPTED, CLOSED = 1, 130, 141  # the last two as the shell counts SIGINT and SIGPIPE


def outcome_of(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit status; a mistake of its user is said in one line, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    try:
        try:
            return command() or 0
        finally:
            sys.stdout.flush()
    except TuneflowError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return _failed("interrupted; the same command goes on from here, or begins again.", INTERRUPTED)
    except BrokenPipeError:  # the reader closed the pipe, as head does
        _discard(sys.stdout)
        return CLOSED
    except OSError as error:
        _discard(sys.stdout)
        return _failed(f"{error.filename or 'the output'}: {error.strerror or error}.")


def _failed(text: str, status: int = FAILED) -> int:
    with suppress(OSError):
        print(*(printable(line) for line in f"tuneflow: {text}".splitlines()), sep="\n", file=sys.stderr)
    return status


def _discard(stream: TextIO) -> None:
    """Drop what is still to be written, so that the interpreter does not try again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
