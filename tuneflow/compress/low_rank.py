"""LowRank: a step that makes two thin layers of one, by the principal components of its outputs."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from tuneflow.compress.layer_names import check_names
from tuneflow.compress.operations import Assign, Factorize, Operation, apply_all
from tuneflow.compress.scores import run_hooked
from tuneflow.compress.step import StepRows
from tuneflow.errors import in_one_line, listed
from tuneflow.validate import check_whole, is_number


@dataclass(frozen=True)
class LowRank:
    """A step that makes two thin layers of each Linear and Conv2d, until `keep` of their weights are left.

    A weight of m outputs and n inputs (of a convolution: input channels times kernel) is replaced by one of rank r,
    which has r (m + n) weights; a convolution becomes one of the same kernel to r channels, and one of kernel 1 from
    there. The directions that stay are principal components of what the layer gives on training rows, its bias aside:
    no other r have a smaller mean squared error there. Over all layers, those go first that hold the smallest share of
    their layer's outputs for the weights they cost, until `keep` of the weights are left, or one direction a layer.
    Layers that would have more weights than before stay as they are, and with `keep` of 1 all do.

    Args:
        keep: share of the weights of these layers together, above 0 and at most 1.
        only: names of the layers; None for every Linear and Conv2d that is used once, has no groups and no
            parametrization.
        rows: training rows that the layers' outputs are taken of.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> [(each.kind, each.layer) for each in LowRank(0.5, only=["0"]).operations(net)]
        [('factorize', '0'), ('assign', '0.0'), ('assign', '0.1')]

    Source: Denton, Zaremba, Bruna, LeCun, Fergus, NIPS 27, 2014; the convolutions: Zhang, Zou, He, Sun, IEEE TPAMI 38,
    2016.
    """

    keep: float = 0.5
    only: Sequence[str] | None = None
    rows: int = 512

    def __post_init__(self) -> None:
        if not is_number(self.keep) or not 0 < self.keep <= 1:
            raise ValueError(
                f"LowRank: keep needs to be a share of the weights, above 0 and at most 1 for all, got {self.keep!r}."
            )
        check_names("LowRank", self.only)
        check_whole("LowRank: rows", self.rows)

    def operations(self, module: nn.Module, rows: StepRows | None = None) -> list[Operation]:
        """Return the factorizations, in the order of the layers.

        Args:
            module: it is not changed.
            rows: of the training part; None for the best approximation of the weights, and no check.

        Raises:
            ValueError: `only` names a layer that cannot become two, or the module's forward fails with the result.
        """
        if self.keep == 1:
            return []
        reasons = _reasons(module)
        for name in self.only or ():
            if reason := reasons.get(name, "there is no such layer"):
                raise ValueError(f'LowRank: "{name}" cannot become two layers: {reason}.')
        names = [name for name, why in reasons.items() if not why and (self.only is None or name in self.only)]
        if not names:
            raise ValueError(f"LowRank: no layer can become two: {_listed(module, reasons)}.")
        moments = _output_moments(module, names, rows, self.rows)
        for name in set(self.only or ()) - set(moments):
            raise ValueError(f'LowRank: "{name}" cannot become two layers: its forward is not called.')
        spectra = _spectra(module, names, moments)
        ranks = _ranks(spectra, self.keep)
        operations: list[Operation] = [Factorize(name, rank, False) for name, rank in ranks.items()]
        if rows is not None:
            _check_forward(module, operations, rows.inputs)
        return operations + [each for name, rank in ranks.items() for each in _fitted(module, spectra[name], rank)]


class _Spectrum(NamedTuple):
    """The principal components of a layer's outputs.

    Attributes:
        name: of the layer.
        shares: of the outputs' second moment, descending; no more than the weight's full rank.
        axes: shape (outputs, components).
        size: number of weights.
        each: number of weights that one component costs.
    """

    name: str
    shares: Tensor
    axes: Tensor
    size: int
    each: int


def _spectra(module: nn.Module, names: Sequence[str], moments: Mapping[str, Tensor]) -> dict[str, _Spectrum]:
    """Return the components of each layer that was called."""
    spectra = {}
    for name in filter(moments.__contains__, names):
        weight: Any = module.get_submodule(name).weight
        if not moments[name].isfinite().all():
            raise FloatingPointError(f'LowRank: outputs of "{name}" on training rows are not finite, or overflow.')
        values, axes = torch.linalg.eigh(moments[name])
        out, into = weight.flatten(1).shape
        full = min(out, into)
        shares = values.flip(0)[:full].clamp(min=0)
        shares = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        spectra[name] = _Spectrum(name, shares, axes.flip(1)[:, :full], weight.numel(), out + into)
    return spectra


def _ranks(spectra: Mapping[str, _Spectrum], keep: float) -> dict[str, int]:
    """Return the rank of each layer that has fewer weights by it than before."""
    worth = [(share / s.each, s.name) for s in spectra.values() for share in s.shares[1:].tolist()]
    ranks = {name: len(spectrum.shares) for name, spectrum in spectra.items()}
    wanted = keep * sum(spectrum.size for spectrum in spectra.values())
    left = {name: spectrum.size for name, spectrum in spectra.items()}
    for _, name in sorted(worth):
        if sum(left.values()) <= wanted:
            break
        ranks[name] -= 1
        left[name] = min(spectra[name].size, ranks[name] * spectra[name].each)
    return {name: rank for name, rank in ranks.items() if left[name] < spectra[name].size}


def _reasons(module: nn.Module) -> dict[str, str]:
    """Return why a layer cannot become two, by its name; empty where it can."""
    modules = list(module.named_modules(remove_duplicate=False))
    places = Counter(id(layer) for _, layer in modules)
    owners = Counter(id(weight) for _, weight in module.named_parameters(remove_duplicate=False))
    fused = [f"{name}.".lstrip(".") for name, layer in modules if isinstance(layer, nn.TransformerEncoderLayer)]
    reasons = {}
    for name, layer in modules:
        reasons[name] = _reason(layer)
        if places[id(layer)] > 1 or any(owners[id(weight)] > 1 for weight in layer.parameters(recurse=False)):
            reasons[name] = "it or its weight is used in two places"
        elif not name or name.startswith(tuple(fused)):
            reasons[name] = "its weight is looked at by the module around it" if name else "it is the module itself"
    return reasons


def _listed(module: nn.Module, reasons: Mapping[str, str]) -> str:
    """Return the reasons of the layers that have weights."""
    weighted = [name for name, layer in module.named_modules() if any(True for _ in layer.parameters(recurse=False))]
    return listed(f'"{name}": {reasons[name]}' for name in weighted) if weighted else "it has none with weights"


def _reason(layer: Any) -> str:
    if is_parametrized(layer):
        return "its weight is parametrized"
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"it is a {type(layer).__name__}, neither a Linear nor a Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "it is a grouped convolution"
    if not layer.weight.is_floating_point():
        return f"its weight is {layer.weight.dtype}"
    hooks = (*layer._forward_hooks, *layer._forward_pre_hooks, *layer._backward_hooks, *layer._backward_pre_hooks)
    if hooks or any(True for _ in layer.children()) or "forward" in vars(layer):
        return "it has hooks, layers in it or a forward of its own"
    return ""


def _output_moments(module: nn.Module, names: Sequence[str], rows: StepRows | None, count: int) -> dict[str, Tensor]:
    """Return the second moments of what layers give on training rows, their biases aside: (outputs, outputs).

    Without rows, those for independent inputs of variance 1.
    """
    if rows is None:
        flat = {name: module.get_submodule(name).weight.detach().double().cpu().flatten(1) for name in names}  # type: ignore[operator]
        return {name: weight @ weight.T for name, weight in flat.items()}
    moments: dict[str, Tensor] = {}

    def hooked(name: str) -> Any:
        def add(layer: Any, _: Any, outputs: Tensor) -> None:
            last = outputs if isinstance(layer, nn.Linear) else outputs.movedim(1, -1)
            values = (last if layer.bias is None else last - layer.bias).reshape(-1, last.shape[-1]).float()
            moments[name] = moments.get(name, 0) + (values.T @ values).double().cpu()

        return module.get_submodule(name).register_forward_hook(add)

    handles = [hooked(name) for name in names]
    run_hooked(module, handles, rows, count)
    return moments


def _fitted(module: nn.Module, spectrum: _Spectrum, rank: int) -> list[Operation]:
    """Return the weights of the two layers that one becomes.

    Both weights of a component have the same norm, as is best for training them.
    """
    weight: Any = module.get_submodule(spectrum.name).weight
    axes = spectrum.axes[:, :rank]
    first = axes.T @ weight.detach().double().cpu().flatten(1)
    root = first.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    into, out = (first / root[:, None]).to(weight), (axes * root).to(weight)
    behind = [1] * (weight.ndim - 2)
    pair = into.reshape(rank, *weight.shape[1:]), out.reshape(-1, rank, *behind)
    return [Assign(f"{spectrum.name}.{number}", "weight", values) for number, values in enumerate(pair)]


def _check_forward(module: nn.Module, operations: Sequence[Operation], inputs: Any) -> None:
    """Raise ValueError if a module whose layers are two cannot be evaluated."""
    if not operations:
        return
    changed = apply_all(operations, copy.deepcopy(module)).eval()
    try:
        with torch.no_grad():
            changed(inputs)
    except Exception as error:
        raise ValueError(
            "LowRank: the module's forward fails when its layers are two each, so it looks into one of them; name the"
            f" others in only=. It ended with {in_one_line(error)}."
        ) from error
