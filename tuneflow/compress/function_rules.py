"""Rules of functions and methods: from the channels of their arguments to those of their result."""

import torch
from torch import Tensor

from tuneflow.compress.channel_spaces import ChannelSpaces, Labels, joined, unlabeled
from tuneflow.compress.layer_rules import (
    Rule,
    drop_out,
    in_front_of,
    keep_all,
    reshaped,
    resized,
    spatial,
    without_mixing,
)
from tuneflow.compress.traced_op import Channels, Traced, TracedOp, traced_in

ELEMENTWISE = (
    "abs add celu clamp clamp_max clamp_min clip clone contiguous cos detach div double elu eq exp expm1 float "
    "floordiv ge gelu gt hardsigmoid hardswish hardtanh iadd imul isub itruediv le leaky_relu log log1p logsigmoid "
    "lt masked_fill maximum minimum mish mul multiply ne neg pow reciprocal relu relu6 rsqrt selu sigmoid silu sin "
    "softplus softsign sqrt square sub subtract tanh to true_divide truediv where"
)
DROPOUTS = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout"
POOLS = [f"{kind}_pool{dims}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg", "lp") for dims in (1, 2, 3)]
REDUCTIONS = ("amax", "amin", "mean", "sum")
ORDERS = ("permute", "transpose", "movedim", "swapaxes", "swapdims", "t")


def rule_of(name: str) -> Rule | None:
    """Return the rule of a function or method by its name, without underscores at its ends."""
    return RULES.get(name)


def _aligned(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Element by element, with broadcasting: what meets is the same channel."""
    if not isinstance(op.result, Tensor):
        return keep_all(op, spaces)
    channels: Channels = {}
    values = [value for value in traced_in([op.args, op.named]) if isinstance(value.value, Tensor)]
    for dim, size in enumerate(op.result.shape):
        parts = [(part, labels) for value in values for part, labels in _along(value, dim, op.result.ndim)]
        if all(labels is None for _, labels in parts):
            continue
        channels[dim] = _meet(parts, size, str(op), spaces)
    return channels


def _along(value: Traced, dim: int, ndim: int) -> list[tuple[int, Labels | None]]:
    """Return size and channels of the dimension that broadcasting puts at `dim`; nothing where there is none."""
    own = dim - (ndim - value.ndim)
    return [(value.value.shape[own], value.channels.get(own))] if own >= 0 else []


def _meet(parts: list[tuple[int, Labels | None]], size: int, op: str, spaces: ChannelSpaces) -> Labels:
    full = [labels or unlabeled(size) for length, labels in parts if length == size]
    for length, labels in parts:
        if length != size and labels is not None:
            spaces.keep(labels, f"its one channel is spread over others by {op}")
    for other in full[1:]:
        spaces.unite(full[0], other, f"its channels meet others, or values that are no layer's channels, in {op}")
    return full[0]


def _padded(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Padding, with two numbers for each dimension from the last one on."""
    return in_front_of(op, len(op.argument(1, "pad")) // 2, spaces)


def _reduced(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """A sum or the like over some dimensions, which are gone afterwards unless they are kept with size 1."""
    ndim, dims = op.first.ndim, op.argument(1, "dim")
    gone = {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims or range(ndim))}
    channels = without_mixing(op, spaces, sorted(gone))
    kept = (op.result if isinstance(op.result, Tensor) else op.result[0]).ndim == ndim
    left = {dim: labels for dim, labels in channels.items() if dim not in gone}
    return left if kept else {dim - sum(other < dim for other in gone): labels for dim, labels in left.items()}


def _extreme(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """The maximum over a dimension, whose result is a pair, or of two values."""
    if isinstance(op.argument(1, "dim"), int):
        return _reduced(op, spaces)
    return _aligned(op, spaces) if len(op.args) == 2 else keep_all(op, spaces)


def _softmax(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    dim = op.argument(1, "dim")
    return keep_all(op, spaces) if dim is None else without_mixing(op, spaces, [dim])


def _reordered(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """The channels in another order of dimensions, found on a tensor with a size of its own for each."""
    marks = torch.empty(tuple(range(2, 2 + op.first.ndim)), device="meta")
    moved = getattr(torch.Tensor, op.name)(
        marks, *_plain_rest(op), **{k: v for k, v in op.named.items() if k != "input"}
    )
    del spaces
    return {new: op.first.channels[size - 2] for new, size in enumerate(moved.shape) if size - 2 in op.first.channels}


def _plain_rest(op: TracedOp) -> list[object]:
    return [op.argument(position, "") for position in range(1, len(op.args))]


def _concatenated(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    values = list(traced_in(op.args[0] if op.args else op.named.get("tensors", ())))
    along = op.argument(1, "dim", 0) % op.result.ndim
    channels: Channels = {}
    for dim, size in enumerate(op.result.shape):
        parts = [value.channels.get(dim) for value in values]
        if all(labels is None for labels in parts):
            continue
        filled = [labels or unlabeled(value.value.shape[dim]) for labels, value in zip(parts, values)]
        if dim == along:
            channels[dim] = joined(filled)
        else:
            channels[dim] = _meet([(size, labels) for labels in filled], size, str(op), spaces)
    return channels


def _squeezed(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    if op.argument(1, "dim") is None:
        return keep_all(op, spaces, "{op} without a dimension would drop its last channel's dimension, too")
    return reshaped(op, spaces)


def _indexed(op: TracedOp, spaces: ChannelSpaces) -> Channels:
    """Slices and numbers in dimensions that number no channels."""
    index = op.argument(1, "index")
    if not isinstance(op.first.value, Tensor):
        return op.first.channels
    parts = list(index) if isinstance(index, tuple) else [index]
    taken = [part for part in parts if part is not None and part is not Ellipsis]
    if not isinstance(op.result, Tensor) or not all(isinstance(part, int | slice) for part in taken):
        return keep_all(op, spaces, "its channels are indexed in forward")
    rest = [slice(None)] * (op.first.ndim - len(taken))
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts = [*parts[:at], *rest, *[part for part in parts[at:] if part is not Ellipsis]]
    return _followed(op, parts, spaces)


def _followed(op: TracedOp, parts: list[object], spaces: ChannelSpaces) -> Channels:
    """Return the channels after an index with one part for each dimension; None adds one."""
    channels: Channels = {}
    old = new = 0
    for part in parts:
        if part is None:
            new += 1
            continue
        labels = op.first.channels.get(old)
        if labels is not None and part == slice(None):
            channels[new] = labels
        elif labels is not None:
            spaces.keep(labels, "its channels are indexed in forward")
        old, new = old + 1, new + (not isinstance(part, int))
    return channels


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), _aligned),
    **dict.fromkeys(DROPOUTS.split(), drop_out),
    **dict.fromkeys(POOLS, spatial),
    **dict.fromkeys(("interpolate", "upsample"), resized),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), _softmax),
    **dict.fromkeys(("flatten", "view", "reshape", "unsqueeze"), reshaped),
    **dict.fromkeys(ORDERS, _reordered),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenated),
    **dict.fromkeys(("max", "min"), _extreme),
    "pad": _padded,
    "squeeze": _squeezed,
    "getitem": _indexed,
}
