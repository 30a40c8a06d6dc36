"""Explains a failed forward pass by the layer's name and numbers; advice is given only where it was tried."""

import copy
import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.check.layer_watch import Layer, Shape, View, Watch, dtype_of
from tuneflow.nested import mapped
from tuneflow.runtime.precision import LOWERED

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRIED = 2  # rows that a change is tried on


def explain(module: nn.Module, watch: Watch, error: Exception) -> Exception:
    """Return the exception to raise for one that occurred while `watch` followed `module`, or its loss, on a batch."""
    view, lost = culprit(watch), _lost_rows(watch)
    if view is not None and (lost or (watch.at and watch.refusal is None)):
        return ValueError(_about_rows(module, watch, view))
    if watch.refusal is not None:
        return watch.refusal
    if not watch.at:
        shape = f" on outputs of shape {tuple(watch.outputs.shape)}" if isinstance(watch.outputs, Tensor) else ""
        return ValueError(f"the loss fails{shape}: {_in_words(error)}{_swapped(error)}")
    layer = watch.at[-1]
    if message := _about_dtype(layer):
        return TypeError(message)
    if message := _about_linear(module, watch, layer) or _about_channels(layer):
        return ValueError(message)
    shape = "" if layer.input is None else f" given shape {tuple(layer.input.shape)} {dtype_of(layer.input)}"
    return ValueError(f"{layer} fails{shape}: {_in_words(error)}")


def culprit(watch: Watch) -> View | None:
    """Return the call that changed the number of rows, or else the view that failed.

    A call that joins rows with, say, time steps does not count where the forward pass stopped: it may be undone later.
    """
    changed = None if watch.at and watch.changed is not None and watch.changed.joins else watch.changed
    failed = watch.last if watch.last is not None and watch.last.after is None else None
    return changed or failed


def lost_rows(module: nn.Module, watch: Watch) -> str:
    """Return a message about rows of the batch that the outputs lack; empty if there are none."""
    if not _lost_rows(watch):
        return ""
    if watch.changed is not None:
        return _about_rows(module, watch, watch.changed)
    return f"the model gives outputs of shape {tuple(watch.outputs.shape)} for batch {watch.rows}; it needs a row each."


def _lost_rows(watch: Watch) -> bool:
    return isinstance(watch.outputs, Tensor) and watch.outputs.shape[:1] != (watch.rows,)


def _about_rows(module: nn.Module, watch: Watch, view: View) -> str:
    """Return the message for a batch dimension that a view, or a layer, has changed."""
    features, count = view.before[1:], math.prod(view.before[1:])
    if not view.call:
        return (
            f"batch {watch.rows} became {_first(view.after)} in {view.where}, which made shape {view.after} of"
            f" {view.before}; the first dimension needs to stay the batch's."
        )
    change = "does not fit" if view.after is None else f"became {_first(view.after)} in"
    message = f"batch {watch.rows} {change} {view.call}{view.where}: the features of a row are {by(features)}"
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
    """Return the number of features in a view(-1, ...); 0 if it names none."""
    numbers = [int(word) for word in view.call[view.call.index("(") + 1 : -1].split(", ") if word.lstrip("-").isdigit()]
    return math.prod(numbers[1:]) if not view.call.startswith("flatten") and len(numbers) > 1 else 0


def _about_linear(module: nn.Module, watch: Watch, layer: Layer) -> str:
    if not isinstance(layer.module, nn.Linear) or layer.input is None or layer.input.ndim == 0:
        return ""
    takes, count, shape = layer.module.in_features, layer.input.shape[-1], tuple(layer.input.shape)
    if takes == count:
        return ""
    if len(shape) > 2 and math.prod(shape[1:]) == takes:
        return f"{layer} takes in_features={takes}, got shape {shape}: flatten(1), or nn.Flatten(), in front of it."
    sizes = () if watch.last is None else watch.last.before[1:]
    features = f"{by(sizes)} = {count}" if len(sizes) > 1 and math.prod(sizes) == count else str(count)
    fits = _padding_that_fits(module, watch)
    way = f"in_features={count} takes them" + (f", or {fits}" if fits else "")
    return f"{layer} takes in_features={takes}, but the features are {features}; {way}."


def _about_channels(layer: Layer) -> str:
    if layer.input is None:
        return ""
    shape = tuple(layer.input.shape)
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


def _about_dtype(layer: Layer) -> str:
    inputs, own = layer.input, next(layer.module.parameters(recurse=False), None)
    if inputs is None or own is None:
        return ""
    if isinstance(layer.module, nn.Embedding | nn.EmbeddingBag):
        whole = inputs.dtype in (torch.int32, torch.int64)
        way = "; give them as int64, with Model(normalize=False) where they were floats."
        return "" if whole else f"{layer} takes row numbers, int64, got {dtype_of(inputs)}{way}"
    if inputs.dtype == own.dtype:
        return ""
    return f"{layer} takes {dtype_of(own)}, got {dtype_of(inputs)}; {_way_to_dtype(own, inputs)}."


def _way_to_dtype(own: Tensor, inputs: Tensor) -> str:
    """Return the way out for a layer that has weights of another dtype than its inputs."""
    usual = torch.get_default_dtype()
    if inputs.dtype == torch.uint8:
        return "leave out normalize=False, or take x.float() / 255 at the start of the model"
    if own.dtype == usual:
        return f"give the inputs as {dtype_of(own)}, with x.to(torch.{dtype_of(own)}) at the start of the model"
    if own.dtype in LOWERED:
        return f'leave out the conversion of the model: tn.Runtime(precision="{_precision(own)}") computes in 16 bits'
    if own.dtype.is_complex:
        return f"take x.to(torch.{dtype_of(own)}) at the start of the model"
    return (
        f"tn.Data holds numbers as {dtype_of(torch.empty(0))}, torch's default dtype: leave out the conversion of the"
        f" model, such as .double(), or call torch.set_default_dtype(torch.{dtype_of(own)}) before the data are made"
    )


def _precision(own: Tensor) -> str:
    return "bf16" if own.dtype == torch.bfloat16 else "fp16"


# Remedies that are tried.


def _padding_that_fits(module: nn.Module, watch: Watch) -> str:
    """Return a padding of the convolutions that keeps the rows apart, in words; empty if none that was tried does."""
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
    """Set the padding of every convolution, None for half its kernel; return the sizes of the kernels."""
    layers = [layer for layer in module.modules() if isinstance(layer, CONVOLUTIONS)]
    for layer in layers:
        layer.padding = tuple(size // 2 if padding is None else padding for size in layer.kernel_size)
        layer._reversed_padding_repeated_twice = [p for p in reversed(layer.padding) for _ in range(2)]
    return {size for layer in layers for size in layer.kernel_size}


def rerun(module: nn.Module, watch: Watch, rows: int) -> Watch | None:
    """Run `module` without gradient on the first `rows` rows of the arguments it was called with.

    Returns:
        The watch of that run, with the module's exception as `error`; None if the module was not called.
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


# Messages.


def by(shape: Shape) -> str:
    """Return a shape in words, such as `128x4x4`."""
    return "x".join(map(str, shape)) or "single numbers"


def _first(shape: Shape | None) -> Any:
    return shape[0] if shape else "a single number"


def _swapped(error: Exception) -> str:
    """Return a hint where class numbers came in the place of outputs."""
    numbers = isinstance(error, NotImplementedError) and "not implemented for 'Long'" in str(error)
    return "; a loss is called as loss(outputs, targets)" if numbers else ""


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
