"""Latency: the time of a forward pass, as a median with its error, beside a reference module where there is one."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from tuneflow.measure.forward_pass import device_of, forward_of, inputs_of, measuring
from tuneflow.metrics.measured import Measured
from tuneflow.validate import check_flag, check_positive, check_whole

WARM = 3  # calls before the first sample, at least
FEWEST, MOST = 3, 400  # samples: at least, also where they take longer than the limit, and at most
USUAL = 25  # samples from which on a small error ends the measurement
PRECISION = 0.02  # of the median: the standard error that ends it
FREED = 31 * 2**20  # bytes; just below the largest size that glibc learns from
SAMPLE = 1e-3  # seconds that a sample takes at least, by calls that are repeated

Clock = Callable[[Callable[[], Any], int], float]  # seconds of so many calls


@dataclass(frozen=True)
class Latency:
    """The time of a forward pass without gradients: the median, with its robust standard error.

    On a CPU with one thread it is the time that the processor works, which other programs hardly change; with several
    threads the time that passes, since their work overlaps; on a GPU the time between two events on the device. Calls
    come after a warm-up and without garbage collection, on real rows, until the standard error of the median is 2 % of
    it, or for the time that `seconds` allows.

    In a study of a trained winner, every module is measured in turns with the winner in float32, so that both run at
    the same moments on a machine of changing speed. The value is then the ratio of the two, or, in milliseconds, this
    ratio times the time of the winner when it was first measured: so values of different trials can be compared. A
    `test` has the milliseconds of the moment.

    Args:
        batch: rows of a forward pass; fewer rows than that are repeated.
        threads: CPU threads.
        relative: return the ratio to the reference, below 1 for a faster module, in place of milliseconds.
        seconds: the time that the samples of a measurement may take; at least three are taken.

    Example:
        >>> milliseconds = Latency(batch=2, seconds=0.01).of_module(nn.Linear(4, 3), torch.ones(2, 4))
        >>> 0 < milliseconds.value < 100
        True

    Raises:
        ValueError: batch or threads is not a whole number >= 1, or seconds no number > 0.
    """

    batch: int = 1
    threads: int = 1
    relative: bool = False
    seconds: float = 2.0
    once_per_structure: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False
    compares: ClassVar[bool] = True  # with a reference module

    def __post_init__(self) -> None:
        check_whole("Latency: batch", self.batch)
        check_whole("Latency: threads", self.threads)
        check_flag("Latency: relative", self.relative)
        check_positive("Latency: seconds", self.seconds)

    def of_module(
        self, module: nn.Module, data: Any, reference: nn.Module | None = None, unit: float | None = None
    ) -> Measured:
        """Return milliseconds, or with `relative` the ratio to the reference, with the standard error.

        Args:
            module: takes raw inputs, on any device.
            data: a tn.Data, a pair (inputs, targets), a Dataset or DataLoader, or inputs alone.
            reference: a module to measure in turns with this one, on the same device.
            unit: milliseconds of the reference; the value is then the ratio times this.

        Raises:
            ValueError: `relative` without a reference.
        """
        if self.relative and reference is None:
            raise ValueError(
                "Latency: relative=True needs a reference module; a study of a trained winner, tn.Model(result), has"
                " one, and elsewhere of_module(module, data, reference=module) takes one. Drop relative for"
                " milliseconds."
            )
        times, others = self._times(module, data, reference)
        if reference is None or (unit is None and not self.relative):
            return _median([1e3 * seconds for seconds in times])
        ratios = [mine / other for mine, other in zip(times, others, strict=True)]
        return _median([ratio * (1.0 if unit is None or self.relative else unit) for ratio in ratios])

    def brief(self) -> "Latency":
        """Return this measure with as few samples as it can have, to try whether it runs."""
        return replace(self, seconds=1e-6)

    def _times(self, module: nn.Module, data: Any, reference: nn.Module | None) -> tuple[list[float], list[float]]:
        """Return the seconds of a forward pass, sample by sample, of the module and of the reference."""
        device = device_of(module)
        clock = clock_of(device, self.threads)
        with measuring(module, self.threads), measuring(module if reference is None else reference, self.threads):
            inputs = inputs_of(data, self.batch, device)
            modules = [module] if reference is None else [module, reference]
            calls = [forward_of(each, inputs) for each in modules]
            with steady():
                counts = [_warm(call, clock) for call in calls]
                samples = self._samples(calls, counts, clock)
        return [row[0] for row in samples], [row[-1] for row in samples]

    def _samples(self, calls: Sequence[Callable[[], Any]], counts: Sequence[int], clock: Clock) -> list[list[float]]:
        """Return seconds of each call, in turns, until they are exact enough or the time is over."""
        samples: list[list[float]] = []
        end = time.perf_counter() + self.seconds
        while len(samples) < FEWEST or (time.perf_counter() < end and len(samples) < MOST):
            samples.append([clock(call, count) / count for call, count in zip(calls, counts, strict=True)])
            if len(samples) >= USUAL and _exact([row[0] / row[-1] if len(row) > 1 else row[0] for row in samples]):
                break
        return samples


def clock_of(device: torch.device, threads: int) -> Clock:
    """Return the clock for forward passes on a device."""
    if device.type == "cuda":
        return _by_events(device)
    if device.type != "cpu":
        return _waiting(device)
    return _by(time.thread_time if threads == 1 else time.perf_counter)


def now(device: torch.device) -> float:
    """Return a time in seconds at which the device has done what it was given: this thread's CPU time on a CPU."""
    if device.type == "cpu":
        return time.thread_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def _by(read: Callable[[], float]) -> Clock:
    def clock(call: Callable[[], Any], count: int) -> float:
        started = read()
        for _ in range(count):
            call()
        return read() - started

    return clock


def _by_events(device: torch.device) -> Clock:
    kind: Any = torch.cuda.Event

    def clock(call: Callable[[], Any], count: int) -> float:
        with torch.cuda.device(device):
            start, end = kind(enable_timing=True), kind(enable_timing=True)
            start.record()
            for _ in range(count):
                call()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return clock


def _waiting(device: torch.device) -> Clock:
    """Return a clock that waits until the device has finished."""
    backend = torch.get_device_module(device)

    def clock(call: Callable[[], Any], count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            call()
        backend.synchronize()
        return time.perf_counter() - started

    return clock


def _warm(call: Callable[[], Any], clock: Clock) -> int:
    """Call until it is warm; return the number of calls in a sample."""
    seconds = min(clock(call, 1) for _ in range(WARM))
    return max(1, math.ceil(SAMPLE / max(seconds, 1e-7)))


@contextmanager
def steady() -> Iterator[None]:
    """A block without automatic garbage collection, in which freed memory is kept for what comes next.

    Glibc gives large tensors back to the system, and their pages cost a quarter of a forward pass when they come anew;
    but not in a process that has once freed a chunk as large as this, as one that runs for long has.
    """
    torch.empty(FREED, dtype=torch.uint8)
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _median(values: Sequence[float]) -> Measured:
    return Measured(statistics.median(values), error_of_median(values))


def error_of_median(values: Sequence[float]) -> float:
    """Return the standard error of the median of independent values, from their median absolute deviation.

    For normal values the median's error is 1.2533 times the mean's, and the standard deviation 1.4826 times the median
    absolute deviation.

    Source: Rousseeuw, Croux, JASA 88, 1993.
    """
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median([abs(value - middle) for value in values])
    return 1.2533 * deviation / math.sqrt(len(values))


def _exact(values: Sequence[float]) -> bool:
    return error_of_median(values) <= PRECISION * statistics.median(values)
