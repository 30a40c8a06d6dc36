"""LiveDisplay: follows a run on its display, for at most 1 % of its time."""

from tuneflow.pages.displays import Display, PlainLines, display_here
from tuneflow.pages.status import Followed
from tuneflow.pages.throttle import Throttle


class LiveDisplay:
    """The display of a study's runs.

    Before the first run, and where nothing but lines can be shown, it prints them to standard error.
    """

    def __init__(self) -> None:
        self._display: Display = PlainLines()
        self._followed: Followed | None = None  # what is under way, if its status can be shown

    def begin(self, followed: Followed, in_notebooks: bool = True) -> None:
        """Follow something that begins now, in place of what was followed before.

        Args:
            followed: its status.
            in_notebooks: False for what lasts longer than a cell, of which a notebook shows the lines only.
        """
        self._display, self._throttle = display_here(self._display, in_notebooks), Throttle()
        self._followed = followed if self._display.shows_status else None

    def update(self) -> None:
        """Show the status as it is now, unless it was shown a moment ago."""
        if self._followed is not None:
            self._throttle.run(self._draw)

    def print(self, line: str, passing: bool = False) -> None:
        """Show a line; a `passing` one need not be shown for good."""
        self._display.print(line, passing)

    def end(self) -> None:
        """Show how it ended; lines that follow are shown there too."""
        followed, self._followed = self._followed, None
        if followed is not None:
            self._display.close(followed.outcome())

    def _draw(self) -> None:
        if self._followed is not None:
            self._display.draw(self._followed.status())
