"""Converted modules: copies of a trained module that compute in bf16, in int8 or in another memory layout."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Convert
from tuneflow.compress.winner import RECORD
from tuneflow.heuristics.input_scaling import Normalizer
from tuneflow.nested import mapped
from tuneflow.runtime.precision import LOWERED, in_channels_last

Calibration = dict[str, Tensor]

SETTLED = 4  # calls in a row with inputs of a new shape, after which an int8 module prepares for them


class ConvertedModule(nn.Module):
    """A trained module in another arithmetic: for inference, without gradients.

    Floating-point inputs are converted, all others pass as they are; outputs come back in the dtype of the trained
    module.

    Args:
        module: a copy of the trained one, with its own forward.
        convert: the arithmetic.
        dtype: that of outputs.
        calibration: the ranges of int8.
        entry: scale and zero point of the input, where `module` takes it quantized.

    Attributes:
        module: computes in that arithmetic.
        convert: the arithmetic.
        calibration: the ranges that it was converted with; empty but for int8.
    """

    def __init__(
        self,
        module: nn.Module,
        convert: Convert,
        dtype: torch.dtype,
        calibration: Mapping[str, Tensor] | None = None,
        entry: tuple[float, int] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.convert = module.eval().requires_grad_(False), convert
        self.calibration, self.entry, self._outside = dict(calibration or {}), entry, dtype
        self._prepared: Any = None  # shape of inputs
        self._last: Any = None
        self._others = 0  # calls in a row with the shape `_last`
        self._inside = torch.bfloat16 if convert.precision == "bf16" else None

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.convert.precision == "int8" and inputs:
            self._settle(inputs[0])
        if self.entry is not None and not named:
            return self.module(*(torch.quantize_per_tensor(each, *self.entry, torch.quint8) for each in inputs))
        if self.convert.precision != "int8":
            inputs, named = mapped(self._enter, inputs), mapped(self._enter, named)
        outputs = self.module(*inputs, **named)
        return outputs if self._inside is None else mapped(self._leave, outputs)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode: it is for inference alone."""
        return super().train(False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(
                f'a module in {self.convert.label or "fp32"} has its forward alone, and no "{name}"; a loss or metric'
                ' that reaches into the module needs Arithmetic("fp32").'
            ) from None

    def of_bytes(self, inputs: Tensor) -> Any:
        """Return the outputs for inputs whose bytes are the integers that the module computes with."""
        assert self.entry is not None
        self._settle(inputs)
        return self.module(torch._make_per_tensor_quantized_tensor(in_channels_last(inputs), *self.entry))

    def takes_bytes(self, normalizer: nn.Module | None) -> bool:
        """True if bytes are the integers to which the module quantizes them behind this normalizer."""
        if self.entry is None or type(normalizer) is not Normalizer:
            return False
        every = torch.arange(256, dtype=torch.uint8).reshape(-1, *[1] * normalizer.mean.ndim)
        integers = torch.quantize_per_tensor(normalizer(every), *self.entry, torch.quint8).int_repr()
        return bool((integers == every).all())

    def _settle(self, inputs: Any) -> None:
        """Prepare for inputs of another shape than before, once it is the shape of several calls in a row."""
        if torch._C._get_tracing_state() is not None:  # a program takes any shape
            return
        shape = getattr(inputs, "shape", None)
        if shape == self._prepared:
            self._others = 0
            return
        self._others = self._others + 1 if shape == self._last else 1
        self._last = shape
        if self._prepared is None or self._others == SETTLED:
            if self._prepared is not None:
                from tuneflow.compress import int8

                int8.renew(self.module)
            self._prepared, self._others = shape, 0

    def extra_repr(self) -> str:
        return self.convert.label or "fp32"

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.convert.precision != "int8":
            return super().__reduce_ex__(protocol)
        from tuneflow.compress import int8

        arguments = (int8.to_bytes(self.module), self.convert, self._outside, self.calibration, self.entry)
        return _restored, arguments, {RECORD: vars(self)[RECORD]} if RECORD in vars(self) else {}

    def _enter(self, tensor: Tensor) -> Tensor:
        if self._inside is not None and tensor.is_floating_point():
            tensor = tensor.to(self._inside)
        return in_channels_last(tensor) if self.convert.channels_last else tensor

    def _leave(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._outside) if tensor.dtype in LOWERED else tensor


def calibrated(module: nn.Module, convert: Convert, inputs: Iterable[Any]) -> tuple[ConvertedModule, Calibration]:
    """Return a module in another arithmetic, and the ranges that it was converted with.

    Args:
        module: the trained one, on its device; not modified.
        convert: the arithmetic.
        inputs: batches, as the module takes them, from which int8 takes the range of every tensor; else not read.

    Raises:
        ValueError: the module does not run in this arithmetic; the message says why, and what does.
        FloatingPointError: a value inside of the module is not finite.
    """
    if convert.precision != "int8":
        return converted(module, convert, {}), {}
    from tuneflow.compress import int8

    observing = int8.observing_copy(module)
    int8.observe(observing, inputs)
    ranges = int8.ranges_of(observing)
    if not all(bool(values.isfinite().all()) for values in ranges.values()):
        raise FloatingPointError("int8 needs finite numbers in the module, got others")
    return _in_int8(observing, convert, ranges), ranges


def converted(module: nn.Module, convert: Convert, calibration: Mapping[str, Tensor]) -> ConvertedModule:
    """Return a module in another arithmetic: without data, the same bits as `calibrated` returned it.

    Args:
        module: the trained one; not modified.
        convert: the arithmetic.
        calibration: the ranges; none are needed but for int8.

    Raises:
        ValueError: the module does not run in this arithmetic, or these are no ranges of its tensors.
    """
    if convert.precision == "int8":
        from tuneflow.compress import int8

        observing = int8.observing_copy(module)
        int8.with_ranges(observing, calibration)
        return _in_int8(observing, convert, calibration)
    new = copy.deepcopy(module)
    if convert.precision == "bf16":
        _to_bfloat16(new)
    return ConvertedModule(in_channels_last(new) if convert.channels_last else new, convert, dtype_of(module))


def is_converted(module: nn.Module) -> bool:
    """True for a module that has a converted one in it, as behind a normalizer."""
    return any(isinstance(part, ConvertedModule) for part in module.modules())


def _restored(content: bytes, *arguments: Any) -> ConvertedModule:
    from tuneflow.compress import int8

    return ConvertedModule(int8.from_bytes(content), *arguments)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first floating-point tensor."""
    tensors = (*module.parameters(), *module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())


def _in_int8(observing: Any, convert: Convert, ranges: Mapping[str, Tensor]) -> ConvertedModule:
    from tuneflow.compress import int8

    module = int8.quantized(observing)
    return ConvertedModule(module, convert, torch.float32, ranges, int8.without_entry(module))


def _to_bfloat16(module: nn.Module) -> None:
    """Convert all parameters and buffers in place; BatchNorm keeps its own, as statistics need their digits."""
    kept = {id(part) for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)}
    for part in module.modules():
        if id(part) not in kept:
            part._apply(_lowered, recurse=False)  # type: ignore[no-untyped-call]


def _lowered(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
