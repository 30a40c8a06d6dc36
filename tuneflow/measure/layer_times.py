"""Times of layers: milliseconds of a forward pass, each layer's own."""

from collections.abc import Callable
from typing import Any

from torch import nn

from tuneflow.measure.forward_pass import device_of, eagerly
from tuneflow.measure.latency import now, steady
from tuneflow.measure.own_amounts import OwnAmounts

REPEATS = 10  # timed forward passes; the fastest of each layer counts


def layer_times(module: nn.Module, forward: Callable[[], Any]) -> dict[nn.Module, float]:
    """Return milliseconds of each module's calls in a forward pass, without those of the modules in it.

    Args:
        module: within a block of `measuring`.
        forward: calls it, and has done so before.
    """
    device, timings = device_of(module), list[dict[nn.Module, float]]()
    with eagerly(), steady():
        for _ in range(REPEATS):
            with OwnAmounts(module, lambda: now(device)) as seconds:
                forward()
            timings.append(seconds.own)
    return {part: 1e3 * min(own.get(part, 0.0) for own in timings) for part in timings[0]}
