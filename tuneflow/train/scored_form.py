"""ScoredForm: the module that a session scores and hands over, in the arithmetic that its recipe ends with."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from tuneflow.compress.converted import Calibration, ConvertedModule, calibrated, converted
from tuneflow.compress.operations import Convert, Operation
from tuneflow.runtime.runtime import Runtime


class ScoredForm:
    """Converts the module of a session, after every epoch and when it is handed over.

    Args:
        recipe: its last Convert holds; without one the module is scored as it is trained.
        runtime: what it is trained under.

    Attributes:
        convert: the arithmetic; None for that of training.
        plain: True if the trained module itself is scored.
        calibration: the ranges that the module was converted with last; empty but for int8.
    """

    def __init__(self, recipe: Sequence[Operation], runtime: Runtime) -> None:
        self.convert = next((each for each in reversed(recipe) if isinstance(each, Convert)), None)
        self.plain = self.convert is None or not (self.convert.label or runtime.label)
        self.calibration: Calibration = {}
        self._kept: ConvertedModule | None = None

    @property
    def label(self) -> str:
        """The arithmetic in words, such as `int8 with channels_last`; empty for that of training."""
        return "" if self.plain or self.convert is None else self.convert.label or "fp32"

    def calibrated(self, module: nn.Module, inputs: Iterable[Any]) -> nn.Module:
        """Return the module to score, with ranges from these batches of inputs.

        The same object every time: what an evaluation has found out about it holds on.

        Args:
            module: in evaluation mode.
            inputs: batches of the training part, as the module takes them.
        """
        if self.plain or self.convert is None:
            return module
        new, self.calibration = calibrated(module, self.convert, inputs)
        self._kept = self._kept or new
        vars(self._kept).update(vars(new))
        return self._kept

    def handed_over(self, module: nn.Module, inputs: Iterable[Any]) -> nn.Module:
        """Return the module to hand over: with the ranges that are known, else with those from `inputs`."""
        if self.plain or self.convert is None:
            return module
        if self.convert.needs_ranges and not self.calibration:
            new, self.calibration = calibrated(module, self.convert, inputs)
            return new
        return converted(module, self.convert, self.calibration)
