"""Padding: channels that are 0 for every input, so that int8 kernels get numbers of channels that they are fast for.

torch pools int8 images 32 channels at a time, and those left over one by one: 28 channels take seven times as long as
32 (torch 2.13, AVX-512). Channels of zero weights, which the next layer does not look at, change no output. A layer
keeps the shape that its weight had without them in its attribute `unpadded`, by which multiplications are counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

AT_ONCE = 32  # channels that are pooled together
LEAST = 12  # channels left over from which on the padding pays for the larger convolutions
POOLS = (nn.MaxPool2d, functional.max_pool2d, torch.max_pool2d)
FLATTENS = (torch.flatten, "flatten")
PASSED = (
    *(nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(torch.relu, functional.relu, functional.adaptive_avg_pool2d, functional.avg_pool2d, *FLATTENS, *POOLS),
)


def pad_channels(graph: fx.GraphModule) -> None:
    """Pad, in place, the convolutions of a graph that pooling follows on the only way to the next layer."""
    for node in graph.graph.nodes:
        layer = _layer(graph, node)
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.out_channels % AT_ONCE >= LEAST:
            way = _way(graph, node)
            if way and any(_kind(graph, each) in POOLS for each in way):
                _pad(layer, [_layer(graph, each) for each in way])


@contextmanager
def without_unpadded(module: nn.Module) -> Iterator[None]:
    """Take `unpadded` off the layers of a module for a while: torch.jit does not restore int8 layers that have it."""
    shapes = [(part, vars(part).pop("unpadded")) for part in module.modules() if "unpadded" in vars(part)]
    try:
        yield
    finally:
        for part, shape in shapes:
            part.unpadded = shape


def _way(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return what follows a convolution, up to the next layer that has weights for its channels; else nothing."""
    way: list[fx.Node] = []
    while len(node.users) == 1:
        before, node = node, next(iter(node.users))
        if not node.args or node.args[0] is not before:
            return []
        way.append(node)
        layer = _layer(graph, node)
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            flat = any(each.target in FLATTENS and each.args[1:] in ((1,), (1, -1)) for each in way)
            return way if flat == isinstance(layer, nn.Linear) else []
        if _kind(graph, node) not in PASSED:
            return []
    return []


def _pad(convolution: nn.Conv2d, way: list[nn.Module | None]) -> None:
    before = convolution.out_channels
    after = -(-before // AT_ONCE) * AT_ONCE
    for layer in (convolution, *way):
        weight = getattr(layer, "weight", None)
        if weight is not None:
            vars(layer).setdefault("unpadded", tuple(weight.shape))
    _grow(convolution, "weight", 0, after)
    _grow(convolution, "bias", 0, after)
    convolution.out_channels = after
    for layer in way:
        if isinstance(layer, nn.BatchNorm2d):
            for name, filled in (("weight", 0.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
                _grow(layer, name, 0, after, filled)
            layer.num_features = after
    last = way[-1]
    if isinstance(last, nn.Conv2d):
        _grow(last, "weight", 1, after)
        last.in_channels = after
    elif isinstance(last, nn.Linear):
        last.in_features = last.in_features // before * after
        _grow(last, "weight", 1, last.in_features)


def _grow(layer: nn.Module, name: str, dim: int, size: int, filled: float = 0.0) -> None:
    old = getattr(layer, name)
    if old is None:
        return
    shape = list(old.shape)
    shape[dim] = size - shape[dim]
    new: Tensor = torch.cat([old.detach(), old.new_full(shape, filled)], dim)
    setattr(layer, name, nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new)


def _layer(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _kind(graph: fx.GraphModule, node: fx.Node) -> object:
    layer = _layer(graph, node)
    return node.target if layer is None else type(layer)
