"""Ctrl-C and SIGTERM during a run: the first finishes the epoch and leaves, a second one leaves now."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from tuneflow.pages.notebook_display import notebook
from tuneflow.pages.terminal_line import LINE

FINISHED = "the epoch was finished"  # the message of what the first Ctrl-C raises


class Interrupts:
    """Catches Ctrl-C and SIGTERM within the block, and raises them at its end; `wanted` is the number of the last one.

    The second signal raises KeyboardInterrupt at once, wherever the block is: in an epoch that hangs, or in waiting for
    a worker that does. The block ends with KeyboardInterrupt after Ctrl-C, with SystemExit after SIGTERM.

    Signals are handled in the main thread only; elsewhere they are left as they are.
    """

    def __init__(self) -> None:
        self.wanted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.wanted == signal.SIGINT:
            raise KeyboardInterrupt(FINISHED)
        if self.wanted == signal.SIGTERM and kind in (None, KeyboardInterrupt):
            raise SystemExit(128 + self.wanted) from None

    def _handle(self, number: int, _: FrameType | None) -> None:
        before, self.wanted = self.wanted, number
        if before is not None:
            raise KeyboardInterrupt
        interrupt = "press Ctrl-C" if notebook() is None else "interrupt"
        again = interrupt if number == signal.SIGINT else "send SIGTERM"
        LINE.print(f"finishing the epoch; {again} again to leave now")
