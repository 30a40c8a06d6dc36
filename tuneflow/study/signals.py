"""Ctrl-C and SIGTERM during a run: the first finishes the epoch and leaves, a second Ctrl-C leaves now."""

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self


class Interrupts:
    """Catches Ctrl-C and SIGTERM within the block, and raises them at its end; `wanted` is the signal's number.

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

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.wanted == signal.SIGINT:
            raise KeyboardInterrupt
        if kind is None and self.wanted is not None:
            raise SystemExit(128 + self.wanted)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.wanted is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.wanted is None:
            print("finishing the epoch; press Ctrl-C again to leave now", file=sys.stderr, flush=True)
        self.wanted = number
