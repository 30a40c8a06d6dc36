"""Placement: which device a new worker process trains on, and which devices are still used."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from tuneflow.errors import StudyError, listed, warn
from tuneflow.execute.workers.assignment import STARTS


class Placement:
    """Spreads worker processes over devices in turn, and leaves out a device on which they die in a row.

    A device that is left out takes its share of the processes along: the others get no more than before.

    Args:
        devices: at least one.
        workers: the number of processes in all.
    """

    def __init__(self, devices: Sequence[torch.device], workers: int) -> None:
        self._shares = Counter(devices[number % len(devices)] for number in range(workers))
        self._devices = devices
        self._losses: Counter[torch.device] = Counter()  # in a row, without an epoch between them
        self._last_loss: dict[torch.device, float] = {}

    @property
    def room(self) -> int:
        """The number of processes that there may be."""
        return self._shares.total()

    def next(self, taken: Iterable[torch.device]) -> torch.device:
        """Return the device for one more process.

        Args:
            taken: the devices of the present ones, fewer than there is room for.
        """
        counts = Counter(taken)
        return min((each for each in self._shares if counts[each] < self._shares[each]), key=counts.__getitem__)

    def has_other(self, device: torch.device | None) -> bool:
        """True if some other device is still used."""
        return any(each != device for each in self._shares)

    def alone(self, device: torch.device) -> torch.device | None:
        """The device that a process is to see alone; None where all train on the same one."""
        return device if len(self._devices) > 1 else None

    def works(self, device: torch.device) -> None:
        """Note that a process has trained an epoch on the device."""
        self._losses[device] = 0

    def lost(self, device: torch.device, started: float, exit_reason: str) -> None:
        """Note that a process could not use the device any more; the third in a row is the last on it.

        Those that the same loss ended count as one.

        Args:
            device: of the process.
            started: when the process was started, by time.monotonic.
            exit_reason: how it ended.

        Raises:
            StudyError: no device is left.
        """
        if device not in self._shares or started < self._last_loss.get(device, started):
            return
        self._last_loss[device] = time.monotonic()
        self._losses[device] += 1
        if self._losses[device] < STARTS:
            return
        del self._shares[device]
        ended = f"{STARTS} worker processes in a row ended on {device}, the last {exit_reason}"
        if not self._shares:
            raise StudyError(f"Runtime: no device is left of {listed(map(str, self._devices))}: {ended}.")
        warn(f"Runtime: {ended}; the run goes on without {device}, on {listed(map(str, self._shares))}.")
