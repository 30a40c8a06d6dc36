"""Profile: the share of each layer in time, parameters and multiplications, and the arithmetic that pays."""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tuneflow.errors import in_one_line
from tuneflow.heuristics.lazy_layers import copy_of
from tuneflow.measure.forward_pass import device_of, eagerly, forward_of, inputs_of, measuring
from tuneflow.measure.latency import Latency
from tuneflow.measure.layer_times import layer_times
from tuneflow.measure.macs import counting
from tuneflow.measure.own_amounts import OwnAmounts
from tuneflow.measure.size import own_weights_of, padding_of
from tuneflow.nested import mapped
from tuneflow.runtime.precision import in_channels_last
from tuneflow.validate import check_whole

REST = "(rest)"  # the name of what runs between the layers
SECONDS = 1.0  # that each arithmetic may be timed for
GAIN = 1.1  # times as fast, from which on an arithmetic is worth a word


@dataclass(frozen=True)
class LayerProfile:
    """The part of one layer in a module.

    Attributes:
        name: its name in the module, as its builder gave it.
        kind: its class.
        milliseconds: time of a forward pass of the whole batch, without the layers in it.
        parameters: number of its own parameters.
        macs: its own multiply-accumulate operations for one row.
        shape: shape of its outputs, without the rows; empty where they are not one tensor.
    """

    name: str
    kind: str
    milliseconds: float
    parameters: int
    macs: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The profile of a module, layer by layer; prints as a table with a sentence below.

    Attributes:
        layers: those that ran, in their order; what runs between them is named "(rest)".
        speedups: times as fast as in float32, by arithmetic: bf16, channels_last, and both.
        refused: the reason, by arithmetic, where it does not run.
        batch: rows of a forward pass.
    """

    layers: tuple[LayerProfile, ...]
    speedups: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    batch: int = 64

    @property
    def sentence(self) -> str:
        """The layers with the most parameters and with the most time, and the arithmetic that would be fastest."""
        return f"{self._largest}; {self._slowest}; {self._fastest}"

    @property
    def _largest(self) -> str:
        largest = max(self.layers, key=lambda layer: layer.parameters)
        if not largest.parameters:
            return "there are no parameters"
        share, macs = (100 * self._share(largest, of) for of in ("parameters", "macs"))
        return f'"{largest.name}" holds {share:.0f} % of the parameters and {macs:.0f} % of the multiplications'

    @property
    def _slowest(self) -> str:
        slowest = max(self.layers, key=lambda layer: layer.milliseconds)
        return f'"{slowest.name}" takes {100 * self._share(slowest, "milliseconds"):.0f} % of the time'

    @property
    def _fastest(self) -> str:
        if not self.speedups:
            return f"it runs in no other arithmetic: {next(iter(self.refused.values()), '')}"
        name, times = max(self.speedups.items(), key=lambda item: item[1])
        if times < GAIN:
            return f"{' and '.join(self.speedups)} would not be faster"
        return f"{name} would be {times:.1f} times as fast"

    def _share(self, layer: LayerProfile, of: str) -> float:
        total = sum(getattr(each, of) for each in self.layers)
        return getattr(layer, of) / total if total else 0.0

    def __repr__(self) -> str:
        head = ["layer", "kind", "time", "parameters", "MACs", "output"]
        rows = [head, *map(self._row, self.layers)]
        wide = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ("  ".join(_aligned(cell, i, wide[i]) for i, cell in enumerate(row)) for row in rows)
        milliseconds = sum(layer.milliseconds for layer in self.layers)
        total = f"{milliseconds:.3g} ms for a batch of {self.batch}"
        return "\n".join([*(line.rstrip() for line in lines), f"{total}; {self.sentence}"])

    def _row(self, layer: LayerProfile) -> list[str]:
        share = f"{100 * self._share(layer, 'milliseconds'):.0f} %"
        counts = [f"{layer.parameters:,}", f"{layer.macs:,}"]
        return [layer.name, layer.kind, share, *counts, "x".join(map(str, layer.shape))]


def _aligned(cell: str, column: int, width: int) -> str:
    return cell.rjust(width) if column in (2, 3, 4) else cell.ljust(width)


def profile(model: Any, data: Any, batch: int = 64, threads: int = 1) -> Profile:
    """Measure where a module spends time, parameters and multiplications, and which arithmetic would be faster.

    The module is not changed. int8 is not among what is tried, since it needs training rows to calibrate; that is a
    step of a study, `tn.compress.Arithmetic`.

    Args:
        model: a module, which takes raw inputs, or a result such as `study.best`.
        data: a tn.Data, a pair (inputs, targets), a Dataset or DataLoader, or inputs alone.
        batch: rows of a forward pass.
        threads: CPU threads.

    Raises:
        TypeError: `model` is neither.
        ValueError: batch or threads is not a whole number >= 1.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [(layer.name, layer.parameters, layer.macs) for layer in profile(net, torch.ones(5, 4)).layers]
        [('0', 15, 12), ('1', 0, 0), ('2', 8, 6), ('(rest)', 0, 0)]
    """
    check_whole("profile: batch", batch)
    check_whole("profile: threads", threads)
    module = _module_of(model)
    with measuring(module, threads):
        inputs = inputs_of(data, batch, device_of(module))
        layers = _layers(module, forward_of(module, inputs), batch)
    tried = Latency(batch, threads, relative=True, seconds=SECONDS)
    return Profile(tuple(layers), *_speedups(module, inputs, tried), batch)


def _module_of(model: Any) -> nn.Module:
    module = model if isinstance(model, nn.Module) or not callable(getattr(model, "model", None)) else model.model()
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"profile: model needs to be a module or a result such as study.best, got a {type(model).__name__}."
        )
    return module


def _layers(module: nn.Module, forward: Callable[[], Any], batch: int) -> list[LayerProfile]:
    """Return the layers that run, in order, and last the time of everything between them."""
    with eagerly(), counting() as counter, OwnAmounts(module, lambda: counter.macs) as macs:
        forward()
    counter.warn_of_uncounted()
    times = layer_times(module, forward)
    prefix = wrapper_prefix(module)
    layers, rest, seen = [], 0.0, dict[int, Tensor]()  # which keeps them, since unpacked weights are new objects
    for part in macs.own:
        weights = [tensor for tensor in _weights(part, macs.own) if id(tensor) not in seen]
        seen |= {id(tensor): tensor for tensor in weights}
        milliseconds = times.get(part, 0.0)
        if macs.has_layers(part) and not weights and not macs.own[part]:
            rest += milliseconds
            continue
        own = sum(tensor.numel() for tensor in weights) - (padding_of(part) if weights else 0)
        numbers = own, round(macs.own[part] / batch)
        name, kind = macs.names[part].removeprefix(prefix), type(part).__name__
        layers.append(LayerProfile(name or kind, kind, milliseconds, *numbers, macs.shapes[part]))
    return [*layers, LayerProfile(REST, "", rest, 0, 0, ())]


def wrapper_prefix(module: nn.Module) -> str:
    """Return the prefix of the layers' names that comes from the library's wrappers, such as that of a normalizer."""
    inner = getattr(module, "module", None)
    if not isinstance(inner, nn.Module) or not type(module).__module__.startswith("tuneflow."):
        return ""
    return f"module.{wrapper_prefix(inner)}"


def _weights(part: nn.Module, called: Container[nn.Module]) -> list[Tensor]:
    """Return the weights of a layer, and of the modules in it that are not called by themselves."""
    inner = [tensor for child in part.children() if child not in called for tensor in _weights(child, called)]
    return [*own_weights_of(part), *inner]


def _speedups(module: nn.Module, inputs: Any, latency: Latency) -> tuple[dict[str, float], dict[str, str]]:
    """Return the times as fast as `module` in other arithmetic, and the reasons where it does not run so."""
    speedups, refused = {}, {}
    for name, change in VARIANTS.items():
        try:
            speedups[name] = 1 / latency.of_module(change(copy_of(module)), (inputs, None), reference=module).value
        except Exception as error:
            refused[name] = in_one_line(error)
    return speedups, refused


def _in_bf16(module: nn.Module) -> nn.Module:
    """Convert a module, and have it convert its inputs."""

    def lower(_: nn.Module, args: Any, named: Any) -> Any:
        return mapped(lambda t: t.bfloat16() if t.is_floating_point() else t, (args, named))

    module.bfloat16().register_forward_pre_hook(lower, with_kwargs=True)
    return module


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bf16": _in_bf16,
    "channels_last": in_channels_last,
    "bf16 with channels_last": lambda module: in_channels_last(_in_bf16(module)),
}
