"""LowRank: a step that makes two thin layers of one, by singular value decomposition."""

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from tuneflow.compress.layer_names import check_names
from tuneflow.compress.operations import Factorize, Operation, apply_all
from tuneflow.compress.step import StepRows
from tuneflow.errors import in_one_line
from tuneflow.validate import is_number


@dataclass(frozen=True)
class LowRank:
    """A step that makes two layers of each Linear and Conv2d, with `keep` times its weights between them.

    A weight of m outputs and n inputs (of a convolution: input channels times kernel) is replaced by its best
    approximation of rank r, which has r (m + n) weights; r is the largest rank with at most `keep` m n, and at least 1.
    A convolution becomes one of the same kernel to r channels, and one of kernel 1 from there. Multiplications shrink
    as the weights do. A layer that is too small to have fewer weights stays as it is, and with `keep` of 1 so do all.

    Args:
        keep: share of each layer's weights, above 0 and at most 1.
        only: names of the layers; None for every Linear and Conv2d that is used once, has no groups and no
            parametrization.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> [(each.layer, each.rank) for each in LowRank(0.25).operations(net)]
        [('0', 5), ('2', 1)]

    Source: Denton, Zaremba, Bruna, LeCun, Fergus, NIPS 27, 2014; the convolutions: Zhang, Zou, He, Sun, IEEE TPAMI 38,
    2016.
    """

    keep: float = 0.5
    only: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not is_number(self.keep) or not 0 < self.keep <= 1:
            raise ValueError(
                f"LowRank: keep needs to be a share of the weights, above 0 and at most 1 for all, got {self.keep!r}."
            )
        check_names("LowRank", self.only)

    def operations(self, module: nn.Module, rows: StepRows | None = None) -> list[Operation]:
        """Return the factorizations, in the order of the layers.

        Args:
            module: it is not changed.
            rows: two of them go through the result, as a check; None for no check.

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
        ranks = {name: _rank(module.get_submodule(name), self.keep) for name in names}
        operations: list[Operation] = [Factorize(name, rank) for name, rank in ranks.items() if rank]
        if rows is not None:
            _check_forward(module, operations, rows.inputs)
        return operations


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


def _reason(layer: nn.Module) -> str:
    if is_parametrized(layer):
        return "its weight is parametrized"
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"it is a {type(layer).__name__}, neither a Linear nor a Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "it is a grouped convolution"
    return ""


def _rank(layer: Any, keep: float) -> int:
    """Return the largest rank with at most this share of the weights; 0 where no rank has fewer weights."""
    out = len(layer.weight)
    into = layer.weight.numel() // out
    rank = max(1, math.floor(keep * out * into / (out + into)))
    return rank if rank * (out + into) < out * into else 0


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
