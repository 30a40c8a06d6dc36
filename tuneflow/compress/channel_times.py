"""Times of channels: milliseconds of an operation of a layer, and of what works on its outputs, for each channel."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from tuneflow.measure.forward_pass import device_of, inputs_of, layer_by_layer, measuring
from tuneflow.measure.layer_times import layer_times


class Rates(NamedTuple):
    """Milliseconds of one multiply-accumulate operation of a layer, and behind each of its channels, by layer."""

    operation: Mapping[str, float]
    channel: Mapping[str, float]


def rates_of(module: nn.Module, macs: Mapping[str, float], widths: Mapping[str, int], inputs: Any, batch: int) -> Rates:
    """Measure the time of a module's layers with channels, on a CPU with one thread, and spread it over them.

    The time of a pooling, an activation or a norm counts for the channels of the layer that ran last before it. What a
    module computes between the modules in it counts for none.

    Args:
        module: with all its channels.
        macs: operations of its layers with channels.
        widths: number of channels that a layer makes.
        inputs: of some rows, repeated to a batch.
        batch: rows of a forward pass.
    """
    with measuring(module, threads=1), layer_by_layer():
        repeated = inputs_of((inputs, None), batch, device_of(module))
        module(repeated)
        times = layer_times(module, lambda: module(repeated))
    names = {module.get_submodule(name): name for name in macs}
    own, behind, last = dict.fromkeys(macs, 0.0), dict.fromkeys(macs, 0.0), ""
    for part, milliseconds in times.items():
        last = names.get(part, "" if _is_layer(part) else last)
        if part in names:
            own[last] += milliseconds
        elif last and not any(part.children()):
            behind[last] += milliseconds
    return Rates(
        {name: own[name] / each if each else 0.0 for name, each in macs.items()},
        {name: behind[name] / width for name, width in widths.items()},
    )


def _is_layer(part: nn.Module) -> bool:
    """True if a module makes channels of its own."""
    return any(weight.ndim > 1 for weight in part.parameters(recurse=False))
