"""Layers that an initialization may draw, and the reasons why others are left alone."""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from tuneflow.heuristics.input_scaling import NORMS

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
PROJECTIONS = ("in_proj", "q_proj", "k_proj", "v_proj")  # of nn.MultiheadAttention, before the softmax


@dataclass(frozen=True, eq=False)
class WeightLayer:
    """One weight, its bias, and its fans.

    Args:
        name: of the layer in its module.
        kind: "linear" (any affine map), "projection" (inside an attention), "embedding" or "norm".
        weight: the parameter.
        bias: the bias that belongs to it, if it is trained.
        fan_in: number of inputs that one output sums.
        fan_out: number of outputs that one input enters.
        unit: the dimension of the output that numbers the units, from the end.
        transposed: a transposed convolution.
        padding: the row of an embedding that stays 0.
    """

    name: str
    kind: str
    weight: nn.Parameter
    bias: nn.Parameter | None = None
    fan_in: int = 1
    fan_out: int = 1
    unit: int = -1
    transposed: bool = False
    padding: int | None = None  # the row of an embedding that stays 0


def find(module: nn.Module) -> tuple[list[WeightLayer], dict[str, str]]:
    """Return the layers of `module`, and name -> reason for every other part that has weights.

    Nothing is run or changed. A frozen bias counts as none.
    """
    layers: list[WeightLayer] = []
    left: dict[str, str] = {}
    for path, part in module.named_modules():
        name = path or type(part).__name__
        own = {key: p for key, p in part._parameters.items() if p is not None}
        if isinstance(part, ParametrizationList):
            continue
        if ".quantized" in type(part).__module__:
            left[name] = "quantized"
        elif is_parametrized(part) or any(key in own for key in ("weight_g", "weight_v", "weight_orig")):
            left[name] = "reparametrized (weight norm, spectral norm, pruning or the like)"
        elif isinstance(part, nn.RNNBase | nn.RNNCellBase):
            left[name] = "recurrent: keeps torch's own initialization"
        elif own and not any(p.requires_grad for p in own.values()):
            left[name] = "frozen"
        elif found := _layers_of(part, path, name):
            layers += [_trainable(layer) for layer in found if layer.weight.requires_grad]
            left.update({layer.name: "frozen" for layer in found if not layer.weight.requires_grad})
        elif own and not isinstance(part, (*NORMS, nn.PReLU)):
            reason = f"a parameter of {type(part).__name__} itself, which this does not know"
            left.update({f"{path}.{key}".lstrip("."): reason for key in own})
    return layers, left


def _layers_of(part: Any, path: str, name: str) -> list[WeightLayer]:
    """Return the layers that are `part` itself; none where its class is unknown, or has another forward."""
    if _is(part, (nn.Linear,)):
        return [WeightLayer(name, "linear", part.weight, part.bias, part.in_features, part.out_features)]
    if _is(part, (*CONVS, *TRANSPOSED)):
        return [_convolution(part, name)]
    if _is(part, EMBEDDINGS):
        return [WeightLayer(name, "embedding", part.weight, padding=part.padding_idx)]
    norm = isinstance(part, NORMS) and type(part).forward.__module__.startswith("torch.nn.")
    if norm and part._parameters.get("weight") is not None:
        return [WeightLayer(name, "norm", part.weight, part._parameters.get("bias"))]
    if _is(part, (nn.MultiheadAttention,)):
        weights = {key: getattr(part, f"{key}_weight") for key in PROJECTIONS}
        return [
            WeightLayer(f"{path}.{key}".lstrip("."), "projection", w, part.in_proj_bias, w.shape[1], part.embed_dim)
            for key, w in weights.items()
            if w is not None
        ]
    return []


def _trainable(layer: WeightLayer) -> WeightLayer:
    frozen = layer.bias is not None and not layer.bias.requires_grad
    return replace(layer, bias=None) if frozen else layer


def _is(part: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return any(isinstance(part, kind) and type(part).forward is kind.forward for kind in kinds)


def _convolution(part: Any, name: str) -> WeightLayer:
    """Return a convolution as a layer; strides reduce the fan-out, or the fan-in where it is transposed."""
    window, stride = math.prod(part.kernel_size), math.prod(part.stride)
    transposed = isinstance(part, TRANSPOSED)
    fan_in = part.in_channels // part.groups * window // (stride if transposed else 1)
    fan_out = part.out_channels // part.groups * window // (1 if transposed else stride)
    unit = -len(part.kernel_size) - 1
    return WeightLayer(name, "linear", part.weight, part.bias, max(1, fan_in), max(1, fan_out), unit, transposed)
