"""Networks for the tests of what is measured of a module."""

import warnings

from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, groups=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(8 * 2 * 2, 10),
    )  # fmt: skip


def quantized(net, x):
    """The network in static int8, calibrated on `x`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(net.eval(), get_default_qconfig_mapping("onednn"), (x,))
        prepared(x)
        return convert_fx(prepared)
