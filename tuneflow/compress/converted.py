"""Converted modules: copies of a trained module that compute in bf16, in int8 or in another memory layout."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.operations import Convert
from tuneflow.nested import mapped
from tuneflow.runtime.precision import LOWERED, in_channels_last

Calibration = dict[str, Tensor]


class ConvertedModule(nn.Module):
    """A trained module in another arithmetic: for inference, without gradients.

    Floating-point inputs are converted, all others pass as they are; outputs come back in the dtype of the trained
    module.

    Args:
        module: a copy of the trained one, with its own forward.
        convert: the arithmetic.
        dtype: that of outputs.

    Attributes:
        module: computes in that arithmetic.
        convert: the arithmetic.
    """

    def __init__(self, module: nn.Module, convert: Convert, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.convert = module.eval().requires_grad_(False), convert
        self._inside = torch.bfloat16 if convert.precision == "bf16" else None
        self._outside = dtype

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.convert.precision != "int8":
            inputs, named = mapped(self._enter, inputs), mapped(self._enter, named)
        outputs = self.module(*inputs, **named)
        return outputs if self._inside is None else mapped(self._leave, outputs)

    def extra_repr(self) -> str:
        return f"{self.convert.precision}{', channels_last' if self.convert.channels_last else ''}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.convert.precision != "int8":
            return super().__reduce_ex__(protocol)
        from tuneflow.compress import int8

        return _restored, (int8.to_bytes(self.module), self.convert, self._outside)

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
    return ConvertedModule(int8.quantized(observing), convert, dtype_of(module)), ranges


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
        return ConvertedModule(int8.quantized(observing), convert, dtype_of(module))
    new = copy.deepcopy(module)
    if convert.precision == "bf16":
        _to_bfloat16(new)
    return ConvertedModule(in_channels_last(new) if convert.channels_last else new, convert, dtype_of(module))


def is_converted(module: nn.Module) -> bool:
    """True for a module that has a converted one in it, as behind a normalizer."""
    return any(isinstance(part, ConvertedModule) for part in module.modules())


def _restored(content: bytes, convert: Convert, dtype: torch.dtype) -> ConvertedModule:
    from tuneflow.compress import int8

    return ConvertedModule(int8.from_bytes(content), convert, dtype)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first floating-point tensor."""
    tensors = (*module.parameters(), *module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())


def _to_bfloat16(module: nn.Module) -> None:
    """Convert all parameters and buffers in place; BatchNorm keeps its own, as statistics need their digits."""
    kept = {id(part) for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)}
    for part in module.modules():
        if id(part) not in kept:
            part._apply(_lowered, recurse=False)  # type: ignore[no-untyped-call]


def _lowered(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
