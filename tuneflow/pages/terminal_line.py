"""A line at the bottom of a terminal that is rewritten in place, with everything else printed above it."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

# Remove this line, and the one above. Clearing to the end of the screen would do at once, but tmux takes a screen that
# is cleared from its first row on into its history.
CLEAR, CLEAR_ABOVE = "\r\x1b[K", "\x1b[1A\x1b[K"


def is_terminal(stream: Any) -> bool:
    """True for a stream to a terminal on which a line can be rewritten."""
    rewrites = os.environ.get("TERM", "dumb") != "dumb" or "WT_SESSION" in os.environ  # the latter is set on Windows
    try:
        return rewrites and bool(stream.isatty()) and os.isatty(stream.fileno())
    except (AttributeError, OSError, ValueError):  # None in a process without a console; a closed file; no file at all
        return False


class TerminalLine:
    """The line of a process on standard error; there is one, LINE.

    While it is shown, `write` of standard output and standard error, if they are terminals, clears it first, whoever
    calls it: so prints, warnings and log lines stand above. It is not drawn again before such a text has come to the
    end of its line. Texts of other processes on the same terminal are not noticed.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may print while the line is drawn
        self._text = ""
        self._shown_on: Any = None
        self._open = False  # someone has begun a line and not ended it
        self._guards: list[tuple[Any, Callable[[str], Any], bool]] = []  # stream, its own write, True if set by others

    def draw(self, fitted: Callable[[int], str]) -> None:
        """Show the line that `fitted` returns for a number of characters, in place of the one before."""
        with self._lock:
            if self._open or not is_terminal(sys.stderr):
                return
            if self._shown_on is not sys.stderr:
                self.erase()
            text = fitted(columns(sys.stderr) - 1)  # in the last column some terminals begin a new line
            erasing, self._text, self._shown_on = self._erasing(), text, sys.stderr
            self._guard()
            self._put(erasing + text)

    def print(self, line: str) -> None:
        """Print a line above; without a line that is shown, as `print` does. A signal's handler may do so too."""
        with self._lock:
            if self._text and self._shown_on is sys.stderr:
                self._put(f"{self._erasing()}{line}\n{self._text}")
                return
            try:
                print(line, file=sys.stderr, flush=True)
            except RuntimeError:  # the signal came while the stream was written to, and that cannot be entered twice
                write_past_buffers(sys.stderr, f"{line}\n")

    def erase(self) -> None:
        """Remove the line, until it is drawn again."""
        with self._lock:
            if self._text:
                self._put(self._erasing())
            self._text = ""
            if not self._open:
                self._unguard()

    def close(self) -> None:
        """Remove the line, and leave the streams as they were."""
        with self._lock:
            self._open = False
            self.erase()

    def _erasing(self) -> str:
        """Return the control characters that remove the line, also where the terminal has become narrower since."""
        if not self._text:
            return ""
        rows = (len(self._text) - 1) // columns(self._shown_on)
        return CLEAR + rows * CLEAR_ABOVE

    def _put(self, text: str) -> None:
        """Write to the terminal that the line is on."""
        try:
            write_past_buffers(self._shown_on, text)
        except (OSError, ValueError):  # the terminal is gone, or its stream closed
            self._text = ""

    def _guard(self) -> None:
        if self._guards:
            return
        for stream in {id(stream): stream for stream in (sys.stderr, sys.stdout) if is_terminal(stream)}.values():
            write, own = stream.write, "write" in getattr(stream, "__dict__", {})
            try:
                stream.write = partial(self._written, write)  # type: ignore[method-assign]
            except AttributeError:  # it takes no attributes
                continue
            self._guards.append((stream, write, own))

    def _unguard(self) -> None:
        while self._guards:
            stream, write, own = self._guards.pop()
            if own:
                stream.write = write
            else:
                del stream.write

    def _written(self, write: Callable[[str], Any], text: str) -> Any:
        """Write the text of someone else, after the line is removed."""
        if not text:
            return write(text)
        with self._lock:
            self._open = not text.endswith("\n")
            self.erase()
            return write(text)


def write_past_buffers(stream: Any, text: str) -> None:
    """Write to the file of a stream, so that the handler of a signal that comes meanwhile may use the stream."""
    with suppress(RuntimeError):  # it is the handler who writes, while the stream is flushed
        stream.flush()
    os.write(stream.fileno(), text.encode(stream.encoding or "utf-8", "backslashreplace"))


def columns(stream: Any) -> int:
    """Return the width of a terminal in characters; 80 where it is not known."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80


LINE = TerminalLine()
atexit.register(LINE.close)
