"""AttackedModule: a module as attacks see it, by its logits and by the gradients that can be taken through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.compress.winner import record_of


class AttackedModule:
    """A module for classes, as attacks see it.

    Args:
        module: takes raw inputs, one tensor, and gives logits of shape (rows, classes).

    Attributes:
        module: the one that is scored.
        forms: the modules to take gradients through, by name.
        box: the range of the rows that it was trained on, where its record has it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forms: dict[str, nn.Module] = {"own": module}
        self.box = record_of(module).box

    def rows(self, inputs: Any) -> Tensor:
        """Return raw inputs as rows to attack: one tensor of floating-point numbers, bytes as such in the same units.

        Raises:
            TypeError: they are of another kind.
        """
        if isinstance(inputs, Tensor) and inputs.is_floating_point():
            return inputs
        if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8:
            return inputs.float()
        kind = f"a tensor of {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"attacks need inputs that are one tensor of floating-point numbers or bytes, got {kind}.")

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of the scored form, shape (rows, classes), without gradients."""
        with torch.no_grad():
            return self.logits_of(self.module, inputs)

    def logits_of(self, form: nn.Module, inputs: Tensor) -> Tensor:
        """Return the logits that a form gives, shape (rows, classes), in float32."""
        return self.as_logits(form(inputs))

    def as_logits(self, outputs: Tensor) -> Tensor:
        """Return outputs of a form as logits, shape (rows, classes), in float32."""
        return outputs.float()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block every form is in evaluation mode."""
        modes = [(part, part.training) for form in self.forms.values() for part in form.modules()]
        for form in self.forms.values():
            form.eval()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode
