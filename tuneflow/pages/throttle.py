"""Throttle: how often something may be shown, by the clock and by what it costs."""

import time
from collections.abc import Callable

INTERVAL, SHARE = 1.0, 100  # seconds between two times; and a hundred times as long as it takes
BURST = 8  # so many at once after a pause: events that come together, before a long wait for the next ones


class Throttle:
    """Runs something at most every second on average, and for at most 1 % of the time."""

    def __init__(self) -> None:
        self._interval, self._next = INTERVAL, 0.0

    def run(self, show: Callable[[], object]) -> None:
        """Call `show` unless that was done too often by now."""
        now = time.monotonic()
        if now < self._next - (BURST - 1) * self._interval:
            return
        show()
        self._interval = max(INTERVAL, SHARE * (time.monotonic() - now))
        self._next = max(self._next, now) + self._interval
