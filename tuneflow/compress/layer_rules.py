"""Rules of layers: from the channels that a layer takes to those that it gives, and its tensors that number them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from tuneflow.compress.channel_spaces import ChannelSpaces, Labels, unlabeled
from tuneflow.compress.traced_op import Channels, TracedOp

Rule = Callable[[TracedOp, ChannelSpaces], Channels]

ELEMENTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink,
    nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip
SPATIAL = tuple(
    getattr(nn, f"{kind}{dims}d")
    for dims in (1, 2, 3)
    for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool", "LPPool", "ConstantPad", "ZeroPad",
                 "ReflectionPad", "ReplicationPad", "CircularPad")
)  # fmt: skip
RESIZING = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
ENCODERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def rule_of(layer: nn.Module) -> Rule | None:
    """Return the rule of a layer; None for a class that has none, or for a subclass with another forward."""
    kinds = (kind for kind in RULES if isinstance(layer, kind) and type(layer).forward is kind.forward)
    return next((RULES[kind] for kind in kinds), None)


def keep_all(op: TracedOp, spaces: ChannelSpaces, why: str = "its channels go into {op}") -> Channels:
    """Leave everything that an operation takes as it is."""
    for labels in op.labels:
        spaces.keep(labels, why.format(op=op))
    return {}


def same(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Each element by itself: the channels stay."""
    del spaces
    return op.first.channels


def drop_out(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Dropout: the channels stay, and it is noted unless it drops nothing."""
    rate = getattr(op.layer, "p", None) if op.layer else op.argument(1, "p", 0.5)
    for labels in op.labels if rate else ():
        spaces.drop_out(labels, str(op))
    return op.first.channels


def spatial(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """A change of each channel's own pixels; the channels are in front of the dimensions that the name counts."""
    dims = next((int(sign) for sign in (type(op.layer).__name__ if op.layer else op.name) if sign.isdigit()), 0)
    return in_front_of(op, dims, spaces)


def resized(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """A change of size: everything behind dimension 1 is spatial."""
    return in_front_of(op, op.first.ndim - 2, spaces)


def in_front_of(op: TracedOp, dims: int, spaces: ChannelSpaces) -> Channels:
    """The channels stay, those of the last `dims` dimensions for good."""
    first = op.first
    if not isinstance(op.result, Tensor) or op.result.ndim != first.ndim or dims < 1:
        return keep_all(op, spaces)
    return without_mixing(op, spaces, [-1 - dim for dim in range(dims)])


def _linear(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    return _affine(op, spaces, op.first.ndim - 1, (0, 1))


def _convolution(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    layer: Any = op.layer
    dim = op.first.ndim - len(layer.kernel_size) - 1
    if any(other != dim for other in op.first.channels):
        keep_all(op, spaces)
    if layer.groups == 1:
        channels = _affine(op, spaces, dim, (1, 0) if layer.transposed else (0, 1))
        return {dim: channels[dim]}
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    return _per_channel(op, spaces, dim, ("weight", "bias")) if depthwise else _grouped(op, spaces)


def _grouped(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    spaces.keep_layer(op.name, "it is a grouped convolution")
    return keep_all(op, spaces)


def _affine(op: TracedOp, spaces: ChannelSpaces, dim: int, order: tuple[int, int]) -> Channels:
    """A layer whose weight has the channels that it makes and those that it uses in these two dimensions."""
    layer: Any = op.layer
    made, used = order
    taken = op.first.channels.get(dim, unlabeled(layer.weight.shape[used]))
    spaces.member(op.name, "weight", used, taken, makes=False)
    new = spaces.made_by(op.name, layer.weight.shape[made])
    spaces.member(op.name, "weight", made, new, makes=True)
    if layer.bias is not None:
        spaces.member(op.name, "bias", 0, new, makes=True)
    return {**op.first.channels, dim: new}


def _norm(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    return _per_channel(op, spaces, 1, ("weight", "bias", "running_mean", "running_var"))


def _prelu(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    layer: Any = op.layer
    if layer.num_parameters == 1:
        return op.first.channels
    return _per_channel(op, spaces, 1, ("weight",))


def _per_channel(op: TracedOp, spaces: ChannelSpaces, dim: int, tensors: tuple[str, ...]) -> Channels:
    """A layer with an element of each tensor for each channel, which it neither mixes nor makes anew."""
    layer: Any = op.layer
    own = [name for name in tensors if getattr(layer, name, None) is not None]
    if any(other != dim for other in op.first.channels) or not own:
        return keep_all(op, spaces)
    labels = op.first.channels.get(dim, unlabeled(op.first.value.shape[dim]))
    for name in own:
        spaces.member(op.name, name, 0, labels, makes=True)
    return op.first.channels


def _softmax(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    dim = getattr(op.layer, "dim", None)
    return keep_all(op, spaces) if dim is None else without_mixing(op, spaces, [dim])


def _layer_norm(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    layer: Any = op.layer
    return without_mixing(op, spaces, [-1 - dim for dim in range(len(layer.normalized_shape))])


def without_mixing(op: TracedOp, spaces: ChannelSpaces, dims: Sequence[int]) -> Channels:
    """The channels stay, those of the dimensions that an operation mixes for good."""
    for dim in {dim % op.first.ndim for dim in dims} & set(op.first.channels):
        spaces.keep(op.first.channels[dim], f"its channels go into {op}")
    return op.first.channels


def _transformer(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Channels inside of the Transformer layers' own pairs of Linears; everything around them stays."""
    assert op.layer is not None
    for name, part in op.layer.named_modules(prefix=op.name):
        if isinstance(part, ENCODERS) and rule_of(part) is not None:
            _hidden_pair(name, part, spaces)
        elif isinstance(part, nn.MultiheadAttention):
            spaces.keep_layer(name, "MultiheadAttention is not narrowed")
    return keep_all(op, spaces)


def _hidden_pair(name: str, layer: Any, spaces: ChannelSpaces) -> None:
    hidden = spaces.made_by(f"{name}.linear1", layer.linear1.out_features)
    spaces.member(f"{name}.linear1", "weight", 0, hidden, makes=True)
    if layer.linear1.bias is not None:
        spaces.member(f"{name}.linear1", "bias", 0, hidden, makes=True)
    spaces.member(f"{name}.linear2", "weight", 1, hidden, makes=False)
    if layer.dropout.p > 0:
        spaces.drop_out(hidden, f'"{name}.dropout" (Dropout)')


def reshaped(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """The channels after a change of shape; what is divided among several dimensions, or joins the rows, is kept."""
    if not isinstance(op.result, Tensor):
        return keep_all(op, spaces)
    before, after = tuple(op.first.value.shape), tuple(op.result.shape)
    channels: Channels = {}
    for ins, outs in blocks(before, after):
        for dim in set(ins) & set(op.first.channels):
            labels = op.first.channels[dim]
            wide = [out for out in outs if after[out] > 1] or outs[:1]
            if len(wide) != 1 or (0 in ins and len(ins) > 1):
                spaces.keep(labels, f"its channels are divided or joined with the rows by {op}")
                continue
            ahead, behind = (math.prod(before[d] for d in part) for part in _around(ins, dim))
            channels[wide[0]] = _refine(channels.get(wide[0]), labels.repeated(ahead, behind), op, spaces)
    return channels


def _refine(old: Labels | None, new: Labels, op: TracedOp, spaces: ChannelSpaces) -> Labels:
    if old is not None:  # two labeled dimensions become one
        spaces.keep(old, f"its channels are multiplied by others in {op}")
        spaces.keep(new, f"its channels are multiplied by others in {op}")
    return new


def _around(dims: list[int], dim: int) -> tuple[list[int], list[int]]:
    return [other for other in dims if other < dim], [other for other in dims if other > dim]


def blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of dimensions of two shapes that hold the same elements, pair by pair."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        ins, outs, left, right = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        while left != right and (i < len(before) if left < right else j < len(after)):
            if left < right:
                ins, left, i = [*ins, i], left * before[i], i + 1
            else:
                outs, right, j = [*outs, j], right * after[j], j + 1
        found.append((ins, outs))
    if found:
        found[-1][0].extend(range(i, len(before)))
        found[-1][1].extend(range(j, len(after)))
    return found


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.PReLU: _prelu,
    nn.LayerNorm: _layer_norm,
    nn.Flatten: reshaped,
    nn.Unflatten: reshaped,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys(ELEMENTWISE, same),
    **dict.fromkeys(DROPOUTS, drop_out),
    **dict.fromkeys(SPATIAL, spatial),
    **dict.fromkeys(RESIZING, resized),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax, nn.Softmin), _softmax),
    **dict.fromkeys((*ENCODERS, nn.TransformerEncoder, nn.TransformerDecoder, nn.Transformer), _transformer),
}
