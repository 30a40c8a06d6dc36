"""The settings of process and thread under which everything is trained and measured, whatever the caller's are."""

import threading
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch

from tuneflow.runtime.threads import Threads
from tuneflow.seeds import ONE_AT_A_TIME

USUAL: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # NumPy's own


class Environment:
    """A block with a number of threads, and with all else that scores depend on as it is in a new process.

    That is: torch's default dtype is the one given, its default device is the CPU; gradients are on; no autocast and no
    inference mode is, and NumPy's floating-point errors are warned of. One thread of Python is in such a block at a
    time, since the generators and most settings are the process's. A block in another one sets the number of threads
    only.

    Args:
        threads: CPU threads; None for as many as before.
        dtype: torch's default dtype in the block; None for the caller's.
        device: whose autocast is left; the CPU's is left too.
    """

    __slots__ = ("_device", "_dtype", "_stack", "_threads")

    _here = threading.local()  # `depth`: the number of blocks that this thread is in

    def __init__(self, threads: int | None, dtype: torch.dtype | None, device: torch.device) -> None:
        self._threads, self._dtype, self._device = Threads(threads), dtype, device

    def __enter__(self) -> None:
        self._stack = ExitStack()
        with ExitStack() as stack:
            stack.enter_context(ONE_AT_A_TIME)
            depth = getattr(self._here, "depth", 0)
            self._here.depth = depth + 1
            stack.callback(setattr, self._here, "depth", depth)
            if not depth:
                self._reset(stack)
            stack.enter_context(self._threads)
            self._stack = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _reset(self, stack: ExitStack) -> None:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(self._dtype or torch.get_default_dtype())
        # No block of gradients: a training loop may be suspended within one of its own, and end it after this one.
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        for block in self._changed():
            stack.enter_context(block)
        torch.set_grad_enabled(True)

    def _changed(self) -> list[AbstractContextManager[Any]]:
        """Return blocks that put back what the caller has changed, none for what is as usual."""
        blocks: list[AbstractContextManager[Any]] = []
        if torch.is_inference_mode_enabled():
            blocks.append(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            blocks.append(torch.device("cpu"))
        for kind in sorted({"cpu", self._device.type}):
            if torch.is_autocast_enabled(kind):
                blocks.append(torch.autocast(kind, enabled=False))
        if np.geterr() != USUAL:
            blocks.append(np.errstate(**USUAL))
        return blocks
