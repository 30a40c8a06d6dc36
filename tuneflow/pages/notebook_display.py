"""The display of a notebook's cell that follows a run: updated in place, without widgets."""

import sys
from collections import deque
from typing import Any
from uuid import uuid4

from tuneflow.errors import printable_lines
from tuneflow.markup.fragment import bar, fragment, note
from tuneflow.markup.html import Markup, joined
from tuneflow.pages.status import Status

PASSING, KEPT = 4, 20  # lines shown of those on trials, and of all others


def notebook() -> Any:
    """Return the shell of the kernel that this process is, in Jupyter or the like; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


class NotebookDisplay:
    """A display in the output of the cell that runs; its last state stays there.

    Args:
        shell: the kernel's, as `notebook` returns it.

    Attributes:
        outcome: what the run came to that it shows; None before, and of a cell in which lines were shown only.
    """

    shows_status = True

    def __init__(self, shell: Any) -> None:
        self._shell, self._id, self._cell = shell, "", None
        self._passing, self._kept = deque[str](maxlen=PASSING), deque[str](maxlen=KEPT)
        self.outcome: Any = None
        self._runs = True

    def draw(self, status: Status) -> None:
        """Show a status, a bar, and the last lines."""
        self._enter_cell()
        self._runs = True
        lines = [note(line) for line in [*self._kept, *self._passing]]
        self._publish(fragment(str(status), bar(status.share, "share that is done"), *lines), str(status))

    def print(self, line: str, passing: bool) -> None:
        """Show a line from the next time on, or now if nothing runs; the latest few of those that are passing."""
        self._enter_cell()
        (self._passing if passing else self._kept).append(line)
        if not self._runs:
            self._show()

    def close(self, outcome: Any) -> None:
        """Show an outcome, and the lines that are kept."""
        self.outcome, self._runs = outcome, False
        self._show()

    def _enter_cell(self) -> None:
        """Forget what another cell showed, unless it is a run that goes on."""
        if not self._runs and self._cell != self._shell.execution_count:
            self.outcome = None
            self._kept.clear()
            self._passing.clear()

    def _show(self) -> None:
        lines = fragment("", *map(note, self._kept)) if self._kept else None
        html = None if self.outcome is None else Markup(self.outcome._repr_html_())
        text = [] if self.outcome is None else [repr(self.outcome)]
        self._publish(joined(html, lines), "\n".join([*text, *self._kept]))

    def _publish(self, html: Markup, text: str) -> None:
        """Show something in the display of the cell that runs, a new one if it is another cell than before."""
        same, self._cell = self._cell == self._shell.execution_count, self._shell.execution_count
        self._id = self._id if same else uuid4().hex
        data = {"text/html": str(html), "text/plain": printable_lines(text)}
        self._shell.display_pub.publish(data, transient={"display_id": self._id}, update=same)
