"""Spectral norms: the largest gain of each linear layer, by which a small change of its inputs can grow."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tuneflow.compress.winner import in_float
from tuneflow.harden.attacked_rows import check_module
from tuneflow.harden.linear_gain import linear_gain
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.measure.forward_pass import device_of, eagerly, forward_of, inputs_of, layer_by_layer, measuring
from tuneflow.measure.layer_profile import wrapper_prefix
from tuneflow.measure.size import own_weights_of

SAME = 1e-3  # of 1, within which a layer without weights is not worth a line
STEEPEST = {
    nn.ReLU: 1.0, nn.ReLU6: 1.0, nn.Hardtanh: 1.0, nn.Tanh: 1.0, nn.Softsign: 1.0, nn.Softplus: 1.0, nn.Sigmoid: 0.25,
    nn.GELU: 1.13, nn.SiLU: 1.1, nn.Mish: 1.089,
}  # fmt: skip
PARAMETRIZED = "parametrizations"  # the part of a layer by which torch computes its weight


@dataclass(frozen=True)
class LayerGain:
    """The largest gain of a linear layer.

    Attributes:
        name: its name in the module, as its builder gave it.
        kind: its class.
        norm: the largest ratio of the l2 norms of a change of its outputs and of the change of its inputs.
        shape: of its inputs, without the rows.
    """

    name: str
    kind: str
    norm: float
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SpectralNorms:
    """The spectral norms of a module's linear layers; prints as a table with a sentence below.

    Attributes:
        layers: those that are linear, in the order in which they run.
        bound: the product over a chain of layers, by which a change of inputs grows at most, in the l2 norm; None where
            the layers are no chain, or one of them has no known bound.
    """

    layers: tuple[LayerGain, ...]
    bound: float | None = None

    @property
    def sentence(self) -> str:
        """The layer with the largest gain, and the bound for all of them."""
        if not self.layers:
            return "no layer is linear"
        largest = max(self.layers, key=lambda layer: layer.norm)
        bound = "" if self.bound is None else f"; from inputs to outputs a change grows at most {self.bound:.3g}-fold"
        return f'"{largest.name}" has the largest gain, {largest.norm:.3g}{bound} (l2)'

    def __repr__(self) -> str:
        rows = [("layer", "kind", "norm", "input"), *map(_cells, self.layers)]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([a.ljust(wide[0]), b.ljust(wide[1]), c.rjust(wide[2]), d]) for a, b, c, d in rows]
        return "\n".join([*lines, self.sentence])


def spectral_norms(module: nn.Module, data: Any) -> SpectralNorms:
    """Return the largest gain of each linear layer, as it computes on inputs of this shape.

    A layer counts as linear if its outputs are so in its inputs, but for a constant: nn.Linear, convolutions with their
    padding, stride and groups, BatchNorm in evaluation mode, average pooling, normalizers. Norms come from Lanczos with
    the layer itself and its transpose, so they are the true ones to 4 digits or more, from below. A module that
    computes in int8 is measured in its float form.

    The product over a chain, as an nn.Sequential is, bounds the growth of any change. No module reaches it, and it does
    not rank modules by robustness: on digits that of a plain training was 9, and that of PGD, which nearly twice as
    many rows withstand, 10. For weakness see `tn.harden.margins`; gains show the layer in which a change grows most.

    Args:
        module: takes raw inputs; it is not changed.
        data: a tn.Data, a pair (inputs, targets), a Dataset or DataLoader, or inputs alone; one row is used.

    Raises:
        TypeError: it is no module.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
        >>> _ = nn.init.constant_(net[0].weight, 2.0)
        >>> norms = spectral_norms(net, Tensor([[1.0, 1.0]]))
        >>> round(norms.layers[0].norm, 4), round(norms.bound, 4)
        (4.0, 4.0)

    Source: Lanczos: Golub, Van Loan, Matrix Computations, 4th edition, 2013, section 10.1; the bound: Szegedy et al.,
    Intriguing properties of neural networks, 2014.
    """
    check_module("spectral_norms", module, "a result gives its module: spectral_norms(study.best.model(), data)")
    module = in_float(module)
    with measuring(module), eagerly(), layer_by_layer():
        inputs = inputs_of(data, 1, device_of(module))
        return gains_of(module, forward_of(module, inputs))


def gains_of(module: nn.Module, forward: Callable[[], Any]) -> SpectralNorms:
    """Return the spectral norms of layers with the shapes that a forward pass gives them; in evaluation mode.

    Args:
        module: its layers are measured.
        forward: calls it.
    """
    names, prefix = {part: name for name, part in module.named_modules()}, wrapper_prefix(module)
    seen = _inputs_of_layers(module, forward)
    norms = {part: _largest(part, inputs.values()) for part, inputs in seen.items()}
    layers = [
        LayerGain(names[part].removeprefix(prefix) or type(part).__name__, type(part).__name__, norm, shape)
        for part, norm in norms.items()
        if norm is not None and (own_weights_of(part) or abs(norm - 1) > SAME)
        for shape in [next(tuple(x.shape[1:]) for x in seen[part].values())]
    ]
    return SpectralNorms(tuple(layers), _bound(module, norms))


def _inputs_of_layers(module: nn.Module, forward: Callable[[], Any]) -> dict[nn.Module, dict[Any, Tensor]]:
    """Return the inputs, by shape, of the modules without others in them that take one tensor."""
    seen: dict[nn.Module, dict[Any, Tensor]] = {}
    called: set[nn.Module] = set()

    def note(part: nn.Module, inputs: Any) -> None:
        called.add(part)
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point():
            seen.setdefault(part, {})[inputs[0].shape] = inputs[0].detach()

    parts = [part for name, part in module.named_modules() if PARAMETRIZED not in name.split(".")]
    handles = [part.register_forward_pre_hook(note) for part in parts]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return {part: inputs for part, inputs in seen.items() if not called & {*part.modules()} - {part}}


def _largest(layer: nn.Module, inputs: Iterable[Tensor]) -> float | None:
    """Return the largest gain over inputs of several shapes; None for a layer that is not linear."""
    gains = [linear_gain(layer, one) for one in inputs]
    known = [gain for gain in gains if gain is not None]
    return max(known) if len(known) == len(gains) else None


def _bound(module: nn.Module, norms: Mapping[nn.Module, float | None]) -> float | None:
    """Return the product of all gains along a chain; None where it is no chain, or a gain is not known."""
    chain = _chain(module)
    gains = [_steepest(part) if norms.get(part) is None else norms[part] for part in chain]
    known = [gain for gain in gains if gain is not None]
    return math.prod(known) if known and len(known) == len(gains) else None


def _chain(module: nn.Module) -> list[nn.Module]:
    """Return the modules that run one after the other; a module whose inner order is not known counts as one."""
    if _changed(module):
        return [module]
    if type(module) is NormalizedModule:
        return [*_chain(module.normalizer), *_chain(module.module)]
    if type(module) is nn.Sequential:
        return [inner for part in module for inner in _chain(part)]
    return [module]


def _steepest(part: nn.Module) -> float | None:
    """Return the largest gain of a layer that is not linear; None where it is not known."""
    if _changed(part):
        return None
    if isinstance(part, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
        sizes, strides, dilations = (
            one if isinstance(one, tuple) else (one,) for one in (part.kernel_size, part.stride, part.dilation)
        )
        overlap = max(sizes) > min(strides) or max(dilations) > 1
        return None if overlap else 1.0  # windows that overlap repeat a change
    return STEEPEST.get(type(part))


def _changed(part: nn.Module) -> bool:
    """True for a module that computes something beside what its class does."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def _cells(layer: LayerGain) -> tuple[str, str, str, str]:
    return layer.name, layer.kind, f"{layer.norm:.4g}", "x".join(map(str, layer.shape))
