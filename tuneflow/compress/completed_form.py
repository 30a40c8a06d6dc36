"""Completed forms: converted modules with what stands around them, as they are handed over, saved and loaded."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.converted import Calibration, ConvertedModule, converted
from tuneflow.compress.operations import Convert
from tuneflow.compress.winner import parts_of, recorded
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.target_scaling import Scale, completed


def completed_form(module: nn.Module, normalizer: nn.Module | None, scale: Scale | None) -> nn.Module:
    """Return a converted module with normalizer and scale around it: raw inputs, and outputs in the targets' units.

    Images of bytes go past the normalizer where the first quantization would give the same bytes again.
    """
    if isinstance(module, ConvertedModule) and normalizer is not None and module.takes_bytes(normalizer):
        return completed(NormalizedBytes(module, normalizer), None, scale)
    return completed(module, normalizer, scale)


class NormalizedBytes(NormalizedModule):
    """An int8 module with its input normalizer in front, which bytes need not pass."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].dtype == torch.uint8:
            return self.module.of_bytes(inputs[0])  # type: ignore[operator]
        return super().forward(*inputs, **named)


def calibration_of(module: nn.Module) -> Calibration:
    """Return the ranges of the converted module in one that is handed over; none where there is none in it."""
    return next((part.calibration for part in module.modules() if isinstance(part, ConvertedModule)), {})


def converted_again(module: nn.Module, calibration: Mapping[str, Tensor]) -> nn.Module:
    """Return a trained module in the arithmetic that its record ends with; itself where that is its own.

    Args:
        module: complete, in float, with its record.
        calibration: the ranges that it was converted with.

    Raises:
        ValueError: these are ranges of another module.
    """
    winner = parts_of(module)
    convert = next((each for each in reversed(winner.record.operations) if isinstance(each, Convert)), None)
    if convert is None or not convert.label:
        return module
    form = completed_form(converted(winner.module, convert, calibration), winner.normalizer, winner.scale)
    return recorded(form.eval(), replace(winner.record, trained=module))
