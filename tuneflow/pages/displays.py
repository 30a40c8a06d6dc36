"""Displays: where the status of a run and its lines are shown, in a terminal, a file or a notebook."""

import sys
from typing import Any, Protocol

from tuneflow.pages.notebook_display import NotebookDisplay, notebook
from tuneflow.pages.status import Status
from tuneflow.pages.terminal_line import LINE, is_terminal


class Display(Protocol):
    """A place where the status of a run is shown, and the lines that it prints.

    Attributes:
        shows_status: False if it has no place for it.
    """

    shows_status: bool

    def draw(self, status: Status) -> None:
        """Show a status in place of the one before."""

    def print(self, line: str, passing: bool) -> None:
        """Show a line; one that is `passing` need not be shown for good."""

    def close(self, outcome: Any) -> None:
        """Remove the status; show the outcome of the run, where there is a place for it."""


class PlainLines:
    """Lines on standard error and nothing else, as for a file."""

    shows_status = False

    def draw(self, status: Status) -> None:
        """Show nothing."""

    def print(self, line: str, passing: bool) -> None:  # noqa: ARG002 (every line stays)
        """Print a line."""
        LINE.print(line)

    def close(self, outcome: Any) -> None:
        """Leave the lines as they are."""


class StatusLine(PlainLines):
    """The line at the bottom of the terminal, with all others above it."""

    shows_status = True

    def draw(self, status: Status) -> None:
        """Show a status, as much of it as there is room for."""
        LINE.draw(status.fitted)

    def close(self, outcome: Any) -> None:  # noqa: ARG002 (the lines above tell)
        """Remove the status."""
        LINE.close()


def display_here(before: Display, in_notebooks: bool = True) -> Display:
    """Return the display that suits the process: of its notebook, where it is a kernel, of its terminal, or plain.

    The one `before` goes on where it shows lines of this cell and no outcome yet.
    """
    shell = notebook() if in_notebooks else None
    if shell is not None:
        if isinstance(before, NotebookDisplay) and before.outcome is None:
            return before
        return NotebookDisplay(shell)
    return StatusLine() if is_terminal(sys.stderr) else PlainLines()
