"""Multiplications: the multiply-accumulate operations of a forward pass, for one row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tuneflow.errors import listed, warn
from tuneflow.measure.forward_pass import device_of, eagerly, forward_of, inputs_of, layer_by_layer, measuring
from tuneflow.measure.size import padding_of, weights_of

# Operations of torch's own that multiply, and whose multiplications are not counted.
UNCOUNTED = (
    *("_transformer_encoder_layer_fwd", "_native_multi_head_attention", "quantized_lstm", "quantized_gru"),
    *(
        "_lstm_mps",
        "miopen_rnn",
        "_cdist_forward",
        "_euclidean_dist",
        "_fft_r2c",
        "_fft_c2r",
        "_fft_c2c",
        "_sparse_addmm",
    ),
)
QUANTIZED = (
    *("conv1d", "conv1d_relu", "conv1d_dynamic", "conv2d", "conv2d_relu", "conv2d_dynamic", "conv2d_add"),
    *("conv2d_add_relu", "conv3d", "conv3d_relu", "conv3d_dynamic", "linear", "linear_relu", "linear_dynamic"),
    *("linear_relu_dynamic", "linear_dynamic_fp16", "linear_relu_dynamic_fp16", "linear_leaky_relu", "linear_tanh"),
)
OURS = ("aten", "prim", "prims", "profiler", "quantized")  # namespaces of torch's operations; others are a user's


@dataclass(frozen=True)
class MACs:
    """The multiply-accumulate operations of a forward pass on one row.

    Counted are products of matrices, convolutions, attention and recurrent layers, by the shapes in one forward pass;
    not additions, activations and norms, as is usual. A layer in int8 has those of the same layer in float32, by the
    shapes of its weight, without the zeros that pad it, and of its output. An operation that multiplies in a way not
    known here is named in a warning.

    Example:
        >>> MACs().of_module(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.ones(5, 4))
        18
    """

    once_per_structure: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = False

    def of_module(self, module: nn.Module, data: Any) -> int:
        """Return the number of multiply-accumulate operations.

        Args:
            module: takes raw inputs, on any device.
            data: a tn.Data, a pair (inputs, targets), a Dataset or DataLoader, or inputs alone; its first row is used.
        """
        with measuring(module):
            forward = forward_of(module, inputs_of(data, 1, device_of(module)))
            with counting() as counter:
                forward()
        counter.warn_of_uncounted()
        return counter.macs


class MacCounter:
    """The multiply-accumulate operations so far within a block of `counting`."""

    def __init__(self, flops: Any, unknown: "UnknownOperations") -> None:
        self._flops, self._unknown = flops, unknown
        self._before = self._padded = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations so far, each of which is two floating-point operations."""
        return int(self._flops.get_total_flops()) // 2 - self._padded

    @contextmanager
    def leaving_out_padding(self) -> Iterator[None]:
        """A block in which layers with channels of zeros count by the shape of their weight without these."""
        hooks = [register_module_forward_pre_hook(self._begin), register_module_forward_hook(self._end)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, part: nn.Module, *_: Any) -> None:
        self._before = self.macs if padding_of(part) else 0

    def _end(self, part: nn.Module, *_: Any) -> None:
        if padding_of(part):
            own, stored = self.macs - self._before, max(tensor.numel() for tensor in weights_of(part))
            self._padded += own - own * prod(vars(part)["unpadded"]) // stored

    def warn_of_uncounted(self) -> None:
        """Warn of the operations that multiply, and are not counted."""
        if self._unknown.names:
            warn(
                f"MACs: the multiplications of {listed(self._unknown.names)} are not known, and are missing from the"
                " number; give a metric of your own that counts them, an object with of_module(module, data)."
            )


@contextmanager
def counting() -> Iterator[MacCounter]:
    """A block in which the operations of forward passes are counted."""
    from torch.utils.flop_counter import FlopCounterMode

    flops = FlopCounterMode(display=False, custom_mapping=formulas())
    with layer_by_layer(), eagerly(), UnknownOperations() as unknown, flops:
        counter = MacCounter(flops, unknown)
        with counter.leaving_out_padding():
            yield counter


class UnknownOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block that collects the names of operations that multiply, and that no formula is known for."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}
        self._known = formulas()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = getattr(func, "overloadpacket", None)
        if packet is not None and packet not in self._known and _multiplies(func.namespace, packet.__name__):
            self.names[str(packet)] = None
        return func(*args, **(kwargs or {}))


def _multiplies(namespace: str, name: str) -> bool:
    """True for an operation that may multiply: one named above, one on quantized weights, or a user's own."""
    if namespace == "quantized":
        return name.startswith(("conv", "linear", "quantized_"))
    return namespace not in OURS or name in UNCOUNTED


def formulas() -> dict[Any, Callable[..., int]]:
    """Return floating-point operations, two a multiplication, of what torch's counter lacks, by operation."""
    aten = torch.ops.aten
    return {
        aten.mv: _raw(_of_vector),
        aten.addmv: _raw(lambda _, matrix, *__, **___: 2 * matrix.numel()),
        aten.dot: _raw(_of_vector),
        aten._trilinear: _raw(_of_bilinear),
        aten._scaled_dot_product_flash_attention_for_cpu: _raw(_of_attention),
        aten._scaled_dot_product_fused_attention_overrideable: _raw(_of_attention),
        aten.mkldnn_rnn_layer: _raw(_of_recurrent_layer),
        aten._cudnn_rnn: _raw(_of_recurrent),
        **{getattr(torch.ops.quantized, name): _raw(_of_quantized) for name in QUANTIZED},
        **{getattr(torch.ops.quantized, f"conv_transpose{d}d"): _raw(_of_quantized_transposed) for d in (1, 2, 3)},
    }


def _raw(formula: Callable[..., int]) -> Callable[..., int]:
    """Mark a formula to be called with tensors and not with their shapes."""
    formula._get_raw = True  # type: ignore[attr-defined]
    return formula


def _of_vector(matrix: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _of_bilinear(left: Tensor, weight: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
    """Of each row, every weight is multiplied by a product of two inputs."""
    return 2 * len(left) * weight.numel() if right.ndim else 0


def _of_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Of queries (..., n, d), keys (..., m, d) and values (..., m, e): the scores and their sums."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


def _of_recurrent_layer(inputs: Tensor, first: Tensor, second: Tensor, *_: Any, **__: Any) -> int:
    """Of inputs (steps, rows, features): both weights at every step of every row."""
    return 2 * inputs.shape[:-1].numel() * (first.numel() + second.numel())


def _of_recurrent(inputs: Tensor, weights: list[Tensor], *_: Any, **__: Any) -> int:
    matrices = sum(weight.numel() for weight in weights if weight.ndim == 2)
    return 2 * inputs.shape[:-1].numel() * matrices


def _of_quantized(inputs: Tensor, packed: Any, *_: Any, out_val: Tensor, **__: Any) -> int:  # noqa: ARG001
    """Of outputs (rows, ...): one row of the weight, (outputs, ...), for each number."""
    weight = packed.unpack()[0]
    return 2 * out_val.numel() * int(weight[0].numel())


def _of_quantized_transposed(inputs: Tensor, packed: Any, *_: Any, **__: Any) -> int:
    """Of inputs (rows, ...): one row of the weight, (inputs, ...), for each number."""
    return 2 * inputs.numel() * int(packed.unpack()[0][0].numel())
