"""Why a forward pass failed, in the layer's name and numbers, and what would help: only what was tried is advised."""

import copy
import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.check.layer_watch import Layer, Shape, View, Watch
from tuneflow.nested import mapped

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRIED = 2  # rows that a change is tried on


def explain(module: nn.Module, watch: Watch, error: Exception) -> Exception:
    """What to raise for an exception that came while `watch` followed `module`, or its loss, on a batch."""
    view, lost = culprit(watch), _lost_rows(watch)
    if view is not None and (lost or (watch.at and watch.refusal is None)):
        return ValueError(_about_rows(module, watch, view))
    if watch.refusal is not None:
        return watch.refusal
    if not watch.at:
        given = f" on outputs of shape {tuple(watch.outputs.shape)}" if isinstance(watch.outputs, Tensor) else ""
        return ValueError(f"the loss fails{given}: {_said(error)}")
    layer = watch.at[-1]
    for about in (_about_dtype, _about_linear, _about_channels):
        message = about(module, watch, layer)
        if message:
            return (TypeError if about is _about_dtype else ValueError)(message)
    given = "" if layer.given is None else f" given shape {tuple(layer.given.shape)} {_kind(layer.given)}"
    return ValueError(f"{layer} fails{given}: {_said(error)}")


def culprit(watch: Watch) -> View | None:
    """The call that changed the number of rows, or else the view that failed.

    Where the forward pass stopped while rows and time steps, say, were joined, that is not it: it may be undone later.
    """
    changed = None if watch.at and watch.changed is not None and watch.changed.joins else watch.changed
    failed = watch.last if watch.last is not None and watch.last.after is None else None
    return changed or failed


def lost_rows(module: nn.Module, watch: Watch) -> str:
    """Where the rows of the batch went that the outputs do not have any more; empty where they are all there."""
    if not _lost_rows(watch):
        return ""
    if watch.changed is not None:
        return _about_rows(module, watch, watch.changed)
    return f"the model gives outputs of shape {tuple(watch.outputs.shape)} for batch {watch.rows}; it needs a row each."


def _lost_rows(watch: Watch) -> bool:
    return isinstance(watch.outputs, Tensor) and watch.outputs.shape[:1] != (watch.rows,)


def _about_rows(module: nn.Module, watch: Watch, view: View) -> str:
    """A batch dimension that a view, or a layer, has changed."""
    features, count = view.before[1:], math.prod(view.before[1:])
    if not view.call:
        return (
            f"batch {watch.rows} became {_first(view.after)} in {view.where}, which made shape {view.after} of"
            f" {view.before}; the first dimension needs to stay the batch's."
        )
    if view.after is None:
        happened = f"batch {watch.rows} does not fit {view.call}{view.where}"
    else:
        happened = f"batch {watch.rows} became {_first(view.after)} in {view.call}{view.where}"
    message = f"{happened}: the features of a row are {by(features)}"
    if len(features) > 1:
        message += f" = {count}"
    wanted = _wanted(view)
    if wanted and wanted != count:
        message += f", not {wanted}"
    fits = _padding_that_fits(module, watch)
    if fits:
        return f"{message}; {fits}."
    way = "flatten(1), or nn.Flatten(), keeps the rows apart"
    return f"{message}; {way}, and nn.Linear(in_features={count}) takes them." if wanted else f"{message}; {way}."


def _wanted(view: View) -> int:
    """How many features a view(-1, ...) asks for; 0 where it names none."""
    numbers = [int(word) for word in view.call[view.call.index("(") + 1 : -1].split(", ") if word.lstrip("-").isdigit()]
    return math.prod(numbers[1:]) if not view.call.startswith("flatten") and len(numbers) > 1 else 0


def _about_linear(module: nn.Module, watch: Watch, layer: Layer) -> str:
    if not isinstance(layer.module, nn.Linear) or layer.given is None or layer.given.ndim == 0:
        return ""
    takes, count, shape = layer.module.in_features, layer.given.shape[-1], tuple(layer.given.shape)
    if takes == count:
        return ""
    if len(shape) > 2 and math.prod(shape[1:]) == takes:
        return f"{layer} takes in_features={takes}, got shape {shape}: flatten(1), or nn.Flatten(), in front of it."
    last = watch.last
    flat = last is not None and len(last.before) > 2 and math.prod(last.before[1:]) == count
    features = f"{by(last.before[1:])} = {count}" if flat and last is not None else str(count)
    fits = _padding_that_fits(module, watch)
    way = f"in_features={count} takes them" + (f", or {fits}" if fits else "")
    return f"{layer} takes in_features={takes}, but the features are {features}; {way}."


def _about_channels(module: nn.Module, watch: Watch, layer: Layer) -> str:
    if layer.given is None:
        return ""
    shape = tuple(layer.given.shape)
    if isinstance(layer.module, CONVOLUTIONS):
        name, takes, inner = "in_channels", layer.module.in_channels, len(layer.module.kernel_size)
        if len(shape) == inner + 1:
            sizes = ", ".join(("depth", "height", "width")[3 - inner :])
            way = "inputs.unsqueeze(1) adds" if takes == 1 else "the inputs lack"
            return f"{layer} takes shape (n, {takes}, {sizes}), got {shape}; {way} the dimension of channels."
    elif isinstance(layer.module, nn.modules.batchnorm._BatchNorm):
        name, takes = "num_features", layer.module.num_features
    else:
        return ""
    if len(shape) < 2 or shape[1] == takes:
        return ""
    return f"{layer} takes {name}={takes}, but the channels are {shape[1]}; {name}={shape[1]} takes them."


def _about_dtype(module: nn.Module, watch: Watch, layer: Layer) -> str:
    given, own = layer.given, next(layer.module.parameters(recurse=False), None)
    if given is None or own is None:
        return ""
    if isinstance(layer.module, nn.Embedding | nn.EmbeddingBag):
        whole = given.dtype in (torch.int32, torch.int64)
        way = "; give them as int64, with Model(normalize=False) where they were floats."
        return "" if whole else f"{layer} takes row numbers, int64, got {_kind(given)}{way}"
    if given.dtype == own.dtype:
        return ""
    if given.dtype == torch.uint8:
        way = "leave out normalize=False, or take x.float() / 255 at the start of the model"
    else:
        way = f"give the inputs as {_kind(own)}"
    return f"{layer} takes {_kind(own)}, got {_kind(given)}; {way}."


# What would help.


def _padding_that_fits(module: nn.Module, watch: Watch) -> str:
    """A padding of the convolutions with which every row keeps to itself; empty where none that was tried does."""
    for padding in (None, 0, 1, 2, 3):
        try:
            trial = copy.deepcopy(module).eval()
        except Exception:  # it holds something that cannot be copied
            return ""
        sizes = _pad(trial, padding)
        seen = rerun(trial, watch, TRIED) if sizes else None
        if seen is not None and seen.error is None and seen.changed is None and not _lost_rows(seen):
            even = f"{sizes.pop() // 2}" if len(sizes) == 1 else "kernel_size // 2"
            value = even if padding is None else str(padding)
            return f"padding={value} in the convolutions gives {by(seen.last.before[1:]) if seen.last else 'it'}"
    return ""


def _pad(module: nn.Module, padding: int | None) -> set[int]:
    """Give every convolution this padding, None for half its kernel; the sizes of their kernels."""
    layers = [layer for layer in module.modules() if isinstance(layer, CONVOLUTIONS)]
    for layer in layers:
        layer.padding = tuple(size // 2 if padding is None else padding for size in layer.kernel_size)
        layer._reversed_padding_repeated_twice = [p for p in reversed(layer.padding) for _ in range(2)]
    return {size for layer in layers for size in layer.kernel_size}


def rerun(module: nn.Module, watch: Watch, rows: int) -> Watch | None:
    """Run `module` without gradient on the first `rows` rows of what it was called with, and follow that.

    None where it was not called. Its `error` is what the module raised.
    """
    if watch.called is None:
        return None

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:rows].clone() if tensor.shape[:1] == (watch.rows,) else tensor

    args, kwargs = mapped(cut, watch.called)
    second = Watch(module, rows)
    with suppress(Exception), torch.no_grad(), second:
        module(*args, **kwargs)
    return second


# Words.


def by(shape: Shape) -> str:
    """`128x4x4`"""
    return "x".join(map(str, shape)) or "single numbers"


def _first(shape: Shape | None) -> Any:
    return shape[0] if shape else "a single number"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
