"""int8: static quantization of a traced module by torch's FX path, from ranges that were measured beforehand.

Inputs of layers take 8 bits, weights 7, one scale for each output channel: two products of these fit into the 16 bits
in which processors without VNNI add them, so that no sum overflows there.
"""

import io
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.nn.intrinsic import quantized as fused_layers
from torch.ao.nn.quantized import Conv1d, Conv2d, Conv3d, Linear
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver, QConfig, QConfigMapping
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn import functional

from tuneflow.compress.padding import pad_channels
from tuneflow.compress.tracing import InFloat, hooks_of, keep_in_float, traced, with_hooks
from tuneflow.nested import mapped
from tuneflow.runtime.precision import in_channels_last

_settings: Any = QConfig  # which has no types
ENGINES = ("x86", "onednn", "qnnpack")
INPUTS = MinMaxObserver.with_args(dtype=torch.quint8)
WEIGHTS = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-64, quant_max=63
)
IN_FLOAT = (
    *(nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.Embedding),
    *(nn.EmbeddingBag, nn.LSTM, nn.GRU, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.Softmax, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, "softmax", "sigmoid", "tanh"),
    *(torch.softmax, torch.sigmoid, torch.tanh, functional.softmax, functional.sigmoid, functional.tanh),
    *(functional.layer_norm, functional.group_norm, functional.instance_norm, functional.hardsigmoid),
    *(torch.cat, torch.concat, torch.concatenate, torch.stack),  # of values with ranges of their own
    *(nn.PReLU, nn.GELU, nn.ELU, functional.gelu, functional.elu, functional.prelu, torch.prelu),  # PReLU's is far off
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
)
TYPES = QConfigMapping().set_global(_settings(activation=INPUTS, weight=WEIGHTS))
UNTRACED = PrepareCustomConfig().set_non_traceable_module_classes([InFloat])
CONVOLUTIONS = (Conv1d, Conv2d, Conv3d, fused_layers.ConvReLU1d, fused_layers.ConvReLU2d, fused_layers.ConvReLU3d)
PACKED = ("quantized.linear", "quantized.conv")  # functions of weights that are no layer's


def ranges_of(observing: nn.Module) -> dict[str, Tensor]:
    """Return the least and the largest value that each observer has seen: shape (2,) by its name."""
    return {name: torch.stack([each.min_val, each.max_val]) for name, each in _observers(observing)}


def observing_copy(module: nn.Module) -> fx.GraphModule:
    """Return a copy of a module in float that records the range of every tensor that becomes int8.

    Args:
        module: without gradients; in evaluation mode BatchNorm becomes part of the convolution or linear layer before.

    Raises:
        ValueError: it cannot be traced, or prepared.
    """
    graph = traced(module)
    pad_channels(graph)
    keep_in_float(graph, IN_FLOAT)
    with _torch_quantization():
        observing: fx.GraphModule = in_channels_last(prepare_fx(graph, TYPES, (), UNTRACED))  # where it observes faster
    return with_hooks(observing, hooks_of(module))


def observe(observing: nn.Module, inputs: Iterable[Any]) -> None:
    """Run a module of `observing_copy` on batches of inputs."""
    with torch.no_grad():
        for batch in inputs:
            observing(mapped(in_channels_last, batch))


def with_ranges(observing: nn.Module, ranges: Mapping[str, Tensor]) -> None:
    """Give the observers the ranges that `ranges_of` returned.

    Raises:
        ValueError: these are ranges of another module, or another version of torch names them otherwise.
    """
    observers = dict(_observers(observing))
    if observers.keys() != ranges.keys():
        raise ValueError(
            f"int8 needs the ranges of {len(observers)} tensors, got {len(ranges)}, of another module or from another"
            " version of torch; calibrate it again: train it for an epoch, or fork it."
        )
    for name, observer in observers.items():
        observer.min_val, observer.max_val = (value.clone() for value in ranges[name].unbind())


def quantized(observing: fx.GraphModule) -> fx.GraphModule:
    """Return the int8 module of one whose observers have ranges; `observing` is used up.

    Raises:
        ValueError: torch cannot convert it, or nothing in it becomes int8.
    """
    unpadded = {name: vars(part)["unpadded"] for name, part in observing.named_modules() if "unpadded" in vars(part)}
    with _torch_quantization():
        converted: fx.GraphModule = convert_fx(observing)
    layers: dict[str, Any] = dict(converted.named_modules())
    for name, shape in unpadded.items():
        if layer := layers.get(name) or layers.get(name.rpartition(".")[0]):  # a fused layer has the outer name
            layer.unpadded = shape
    if not _has_int8(converted):
        raise ValueError(
            "int8 needs a linear layer or a convolution that the module calls by itself, and got none: nothing in it"
            ' would be int8; choose "fp32" or "bf16".'
        )
    return with_hooks(converted.requires_grad_(False), hooks_of(observing))


def renew(module: nn.Module) -> None:
    """Pack the weights of every layer anew: torch's kernels stay prepared for the first shape that a layer has seen."""
    with _torch_quantization(), torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (*CONVOLUTIONS, Linear)):
                layer.set_weight_bias(*layer._weight_bias())  # type: ignore[no-untyped-call]


def to_bytes(module: nn.Module) -> bytes:
    """Return an int8 module as bytes, which pickle alone cannot restore."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own storages
        _Pickler(buffer).dump((module, hooks_of(module)))
    return buffer.getvalue()


def from_bytes(content: bytes) -> nn.Module:
    """Return the module that `to_bytes` was given."""
    with _torch_quantization():
        module, hooks = pickle.loads(content)
    return with_hooks(module, hooks)


class _Pickler(pickle.Pickler):
    """Pickles the convolutions of torch's quantization too, which torch 2.13 cannot restore."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, CONVOLUTIONS):
            return _restored, (type(value), value.__getstate__(), getattr(value, "unpadded", None))
        return NotImplemented


def without_entry(module: fx.GraphModule) -> tuple[float, int] | None:
    """Take out, in place, the quantization of the only input, and return its scale and zero point.

    None, and nothing is done, where inputs are used otherwise too, or reach the module by a hook.
    """
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    users = [user for node in inputs for user in node.users]
    if len(inputs) != 1 or len(users) != 1 or users[0].target is not torch.quantize_per_tensor or any(hooks_of(module)):
        return None
    scale, zero_point = (getattr(module, str(node.target)) for node in users[0].args[1:3])
    users[0].replace_all_uses_with(inputs[0])
    module.graph.erase_node(users[0])
    module.graph.eliminate_dead_code()
    module.recompile()
    return float(scale), int(zero_point)


def _observers(observing: nn.Module) -> list[tuple[str, MinMaxObserver]]:
    return [(name, each) for name, each in observing.named_modules() if isinstance(each, MinMaxObserver)]


def _has_int8(module: fx.GraphModule) -> bool:
    called = (str(node.target) for node in module.graph.nodes if node.op == "call_function")
    return any(isinstance(each, (*CONVOLUTIONS, Linear)) for each in module.modules()) or any(
        name.startswith(PACKED) for name in called
    )


@contextmanager
def _torch_quantization() -> Iterator[None]:
    """A block for calls of torch's quantization: with the engine of this processor, its warnings out of sight.

    Raises:
        ValueError: torch raised anything.
    """
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = _engine()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it draws weights that it replaces
            warnings.simplefilter("ignore")  # torch announces the end of this path; all of it is called from here
            yield
    except Exception as error:
        raise ValueError(
            f'int8: torch cannot convert the module ({type(error).__name__}: {error}); choose "fp32" or "bf16".'
        ) from None
    finally:
        torch.backends.quantized.engine = before


def _engine() -> str:
    engine = next((name for name in ENGINES if name in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise ValueError('int8 needs a torch with int8 kernels, and this one has none; choose "fp32" or "bf16".')
    return engine


def _restored(kind: Any, state: Any, unpadded: tuple[int, ...] | None) -> nn.Module:
    layer: Any = kind.__new__(kind)
    nn.Module.__init__(layer)
    layer.__setstate__(state)
    if unpadded is not None:
        layer.unpadded = unpadded
    restored: nn.Module = layer
    return restored
