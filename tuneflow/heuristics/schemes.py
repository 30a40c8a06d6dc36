"""Schemes to draw a layer's weights, and the gain of each activation."""

import math

import torch
from torch import nn

from tuneflow.heuristics.layers import WeightLayer

SCHEMES = ("default", "lecun", "kaiming", "xavier", "orthogonal")

RECTIFIERS = ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "threshold")
SQUASHERS = ("tanh", "sigmoid", "hardtanh", "hardsigmoid", "softsign", "selu", "logsigmoid", "tanhshrink")

# 1 / sqrt(E f(z)^2), z ~ N(0, 1): pre-activations of variance 1 have variance 1 again a layer later. Integrated over a
# fine grid, as tests/heuristics/test_initialize.py does again; glu: E sigmoid(z)^2, as its other half has variance 1.
MEASURED = {"gelu": 1.5335, "silu": 1.6765, "mish": 1.4868, "hardswish": 1.7367, "softplus": 1.0419, "glu": 1.8462}

TEXTBOOK = {"tanh": 5 / 3, "selu": 3 / 4}  # where torch.nn.init.calculate_gain differs from LeCun's 1
ACTIVATIONS = frozenset((*RECTIFIERS, *SQUASHERS, *MEASURED))


def gain(scheme: str, activation: str, slope: float = 0.0) -> float:
    """Return the factor for weights of variance 1 / fan_in before `activation`.

    LeCun's rule has 1 for tanh, sigmoid, SELU and no activation, sqrt(2 / (1 + slope^2)) for rectifiers, and for the
    smooth ones the gain that keeps the second moment over depth. The other schemes: 5 / 3 for tanh and 3 / 4 for SELU.

    Args:
        scheme: "lecun", "kaiming", "xavier" or "orthogonal".
        activation: its name in torch.nn.functional; "linear" for none.
        slope: of the activation for negative inputs.

    Example:
        >>> round(gain("lecun", "relu"), 4), gain("lecun", "tanh"), round(gain("kaiming", "tanh"), 4)
        (1.4142, 1.0, 1.6667)

    Source: LeCun et al., Efficient BackProp, 1998; He et al., ICCV 2015; Klambauer et al., NIPS 2017.
    """
    if activation in RECTIFIERS:
        return math.sqrt(2 / (1 + slope**2))
    if scheme != "lecun" and activation in TEXTBOOK:
        return TEXTBOOK[activation]
    return MEASURED.get(activation, 1.0)


@torch.no_grad()
def draw(layer: WeightLayer, scheme: str, g: float) -> None:
    """Draw the weight in place and set the bias to 0. Draws on the CPU: the same on every device.

    lecun, kaiming: N(0, g^2 / fan_in). xavier: N(0, 2 g^2 / (fan_in + fan_out)). orthogonal: g times a matrix with
    orthonormal rows, or columns where there are fewer inputs than units.
    """
    weight = torch.empty(layer.weight.shape)
    if scheme == "orthogonal" and layer.transposed:
        weight = nn.init.orthogonal_(weight.transpose(0, 1).contiguous(), g).transpose(0, 1)
    elif scheme == "orthogonal":
        nn.init.orthogonal_(weight, g)
    else:
        fan = (layer.fan_in + layer.fan_out) / 2 if scheme == "xavier" else layer.fan_in
        weight.normal_(0, g / math.sqrt(fan))
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def draw_embedding(layer: WeightLayer, std: float) -> None:
    """Draw an embedding's rows from N(0, std^2), in place; the padding row stays 0."""
    layer.weight.copy_(torch.empty(layer.weight.shape).normal_(0, std))
    if layer.padding is not None:
        layer.weight[layer.padding] = 0
