"""Arithmetic: a step that chooses the precision and memory layout in which a trained module is used."""

import io
from contextlib import redirect_stderr
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tuneflow.compress.converted import calibrated
from tuneflow.compress.operations import Convert, Operation
from tuneflow.compress.step import StepRows
from tuneflow.errors import did_you_mean
from tuneflow.nested import leaves
from tuneflow.validate import check_flag, is_word

PRECISIONS = ("fp32", "bf16", "int8")
TRIED = 64  # rows
ROUNDING = 0.01  # standard deviations by which a trace may be off
MOST = 0.5  # standard deviations of the outputs that they may be off by


class Arithmetic:
    """Has a module scored, and handed over, in another arithmetic than the one that it is trained in.

    Weights are trained as ever. Every score is that of the converted module, and that is what `Result.model()` returns:
    inputs and outputs of it are float32. The input normalizer and the scale of targets around it stay in float32.

    Args:
        precision: "fp32"; "bf16", in which weights and everything computed from them have 16 bits, but for BatchNorm's
            statistics; or "int8": linear layers and convolutions, and what follows them as ReLU, pooling and additions
            do, compute with integers of 8 bits, with weights of 7; CPU only. Layers inside of
            torch's own, as in a TransformerEncoderLayer, stay in float32. Ranges are measured on up to 512 training
            rows after every epoch. Fast where the processor has VNNI or AMX.
        channels_last: images and the weights for them are laid out pixel by pixel. int8 computes so anyway.

    Raises:
        ValueError: there is no such precision; or, from `operations`, the module does not run in it.
        TypeError: channels_last is not True or False.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    CVPR 2018, for int8.
    """

    def __init__(self, precision: Literal["fp32", "bf16", "int8"] = "fp32", channels_last: bool = False) -> None:
        if not is_word(precision, PRECISIONS):
            near = did_you_mean(str(precision).lower(), PRECISIONS)
            raise ValueError(f'Arithmetic: precision needs to be "fp32", "bf16" or "int8", got {precision!r}.{near}')
        self.precision, self.channels_last = precision, check_flag("Arithmetic: channels_last", channels_last)

    def __repr__(self) -> str:
        return f"Arithmetic({self.precision!r}, channels_last={self.channels_last})"

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:
        """Return the conversion, after it was tried on a few rows."""
        convert = Convert(self.precision, self.channels_last)
        inputs = next(rows.batches(TRIED, 1))[0]
        with torch.no_grad(), redirect_stderr(io.StringIO()):  # where torch.fx prints tracebacks of its own
            plain = _outputs(module, inputs)
            try:
                outputs = _outputs(calibrated(module, convert, [inputs])[0], inputs)
                if convert.needs_ranges:
                    _check_trace(module, inputs, plain)
            except ValueError:
                raise
            except Exception as error:
                raise ValueError(
                    f"Arithmetic: {type(module).__name__} does not run in {self.precision}"
                    f' ({type(error).__name__}: {error}); leave it at "fp32".'
                ) from None
        check_alike(plain, outputs, self.precision)
        return [convert]


def _outputs(module: nn.Module, inputs: Any) -> Any:
    """Return the outputs with the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(inputs)


def _check_trace(module: nn.Module, inputs: Any, plain: Any) -> None:
    """Raise ValueError unless a module's trace, of which int8 is made, gives what the module gives."""
    from tuneflow.compress.tracing import traced

    pairs = zip(leaves(plain), leaves(_outputs(traced(module), inputs)), strict=False)
    off = max((_distance(*pair) for pair in pairs if pair[0].is_floating_point()), default=0.0)
    if off > ROUNDING:
        raise ValueError(
            f"Arithmetic: int8 is made of a trace of the module, whose outputs are off by {off:.2g} times the spread of"
            " the module's: forward changes a part of a tensor in place and uses the whole, or computes with Python"
            ' what depends on the rows; write it without that, or choose "fp32" or "bf16".'
        )


def check_alike(plain: Any, outputs: Any, precision: str) -> None:
    """Raise ValueError unless converted outputs are of the kind of the plain ones, and differ little from them."""
    pairs = list(zip(leaves(plain), leaves(outputs), strict=False))
    kinds = [[(tuple(leaf.shape), leaf.dtype) for leaf in leaves(each)] for each in (plain, outputs)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"Arithmetic: {precision} needs outputs of the same shapes and dtypes as before, {kinds[0]}, got"
            f' {kinds[1]}; leave it at "fp32".'
        )
    off = max((_distance(*pair) for pair in pairs if pair[0].is_floating_point()), default=0.0)
    if off > MOST:
        raise ValueError(
            f"Arithmetic: outputs in {precision} are off by {off:.2g} times the spread of those before; leave it at"
            ' "fp32".'
        )


def _distance(plain: Tensor, outputs: Tensor) -> float:
    """Return the root mean square of the difference of two tensors in standard deviations of the first."""
    spread = (plain - plain.mean()).square().mean().sqrt()
    least = 0.01 * plain.square().mean().sqrt() + torch.finfo(plain.dtype).tiny  # where all outputs are the same
    return float((outputs - plain).square().mean().sqrt() / spread.clamp_min(float(least)))
