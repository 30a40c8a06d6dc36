"""AttackedModule: a module as attacks see it, by its logits and by the gradients that can be taken through it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.compress.winner import record_of
from tuneflow.heuristics.sanitizing import sanitizers_in, straight_through
from tuneflow.measure.forward_pass import device_of

NEEDS = "attacks need"
ROUNDING = 0.01  # of shares of classes that add up to 1, in half precision


class AttackedModule:
    """A module for classes, as attacks see it.

    Args:
        module: takes raw inputs, one tensor, and gives logits of shape (rows, classes).

    Attributes:
        module: the one that is scored.
        forms: the modules to take gradients through, by name: "own", or "float" for the one behind a converted module;
            with sanitizers also "straight-through", in which the gradient of these is that of the identity.
        first: the name of the form for an attack that takes one: straight-through where the own gradient is 0.
        box: the range of the rows that it was trained on, where its record has it.
    """

    def __init__(self, module: nn.Module) -> None:
        record = record_of(module)
        self.module, self.box = module, record.box
        self.forms: dict[str, nn.Module] = {"own": module} if record.trained is None else {"float": record.trained}
        (self.first, own), *_ = self.forms.items()
        if sanitizers := sanitizers_in(own):
            self.forms["straight-through"] = straight_through(own)
            if not all(getattr(each, "has_gradient", True) for each in sanitizers):
                self.first = "straight-through"

    def rows(self, inputs: Any) -> Tensor:
        """Return raw inputs as rows to attack: one tensor of floating-point numbers, bytes as such in the same units.

        Raises:
            TypeError: they are of another kind.
        """
        if isinstance(inputs, Tensor) and inputs.is_floating_point():
            return differentiable(inputs.to(self._dtype or inputs.dtype))
        if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8:
            return inputs.float()
        raise TypeError(f"{NEEDS} one tensor of floating-point numbers or bytes as inputs, got {_described(inputs)}.")

    @property
    def _dtype(self) -> torch.dtype | None:
        """The type of all parameters and buffers that are floating-point; None where they differ, or there are none."""
        tensors = (tensor for form in self.forms.values() for tensor in chain(form.parameters(), form.buffers()))
        types = {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point}
        return types.pop() if len(types) == 1 else None

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of the scored form, shape (rows, classes), without gradients."""
        with torch.no_grad():
            return self.logits_of(self.module, inputs)

    def logits_of(self, form: nn.Module, inputs: Tensor) -> Tensor:
        """Return the logits that a form gives, shape (rows, classes), in float32 at least."""
        return self.as_logits(form(inputs.clone()))  # which a first layer may change in place

    def as_logits(self, outputs: Any) -> Tensor:
        """Return outputs of a form as logits, shape (rows, classes), in float32 at least.

        One logit for each row, as of nn.BCEWithLogitsLoss, becomes two, of which the first is 0.

        Raises:
            TypeError, ValueError: they are no logits of one class for each row.
        """
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            raise TypeError(f"{NEEDS} logits of shape (rows, classes), got outputs that are {_described(outputs)}.")
        if outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1):
            single = _precise(outputs).reshape(-1, 1)
            return torch.cat([torch.zeros_like(single), single], 1)
        if outputs.ndim != 2:
            raise ValueError(f"{NEEDS} logits of shape (rows, classes), got outputs of {_described(outputs)}.")
        return _precise(outputs)

    def classes(self, targets: Any, logits: Tensor) -> Tensor:
        """Return targets as class numbers, shape (rows,), or as shares of classes in the shape of the logits.

        Raises:
            TypeError, ValueError: they are neither.
        """
        if not isinstance(targets, Tensor):
            raise TypeError(f"{NEEDS} class numbers as targets, got {_described(targets)}.")
        if targets.is_floating_point() and targets.shape == logits.shape:
            return differentiable(_shares(targets))
        numbers = targets.reshape(-1) if targets.shape in ((len(logits),), (len(logits), 1)) else None
        whole = None if numbers is None else numbers.long()
        if whole is None or not torch.equal(whole.to(targets.dtype), numbers.to(targets.dtype)):  # type: ignore[union-attr]
            raise ValueError(f"{NEEDS} class numbers of shape (rows,) as targets, got {_described(targets)}.")
        if len(whole) and not 0 <= int(whole.min()) <= int(whole.max()) < logits.shape[1]:
            raise ValueError(
                f"{NEEDS} class numbers from 0 to {logits.shape[1] - 1} as targets, got {int(whole.min())} to"
                f" {int(whole.max())}; rows that a loss ignores have no class to attack."
            )
        return differentiable(whole)

    def cross_entropy(self, form: str, targets: Any) -> Callable[[Tensor], Tensor]:
        """Return the sum over rows of the cross-entropy that a form gives, as a function of the rows."""

        def loss(rows: Tensor) -> Tensor:
            logits = self.logits_of(self.forms[form], rows)
            return functional.cross_entropy(logits, self.classes(targets, logits), reduction="sum")

        return loss

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A block in which every form is in evaluation mode, and what the caller has switched on or off does not count.

        Gradients are off in it, but for those that an attack takes, and so are inference mode and autocast: forms
        compute in their own precision. Modes are restored after it.
        """
        parts = [part for form in self.forms.values() for part in form.modules()]
        modes = [(part, part.training) for part in parts if hasattr(part, "training")]  # a frozen TorchScript has none
        device = device_of(self.module).type
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
            for form in self.forms.values():
                with suppress(NotImplementedError, AttributeError):  # an exported program has no modes
                    form.eval()
            try:
                yield
            finally:
                for part, mode in modes:
                    part.training = mode


def differentiable(tensor: Tensor) -> Tensor:
    """Return a tensor that gradients can be taken with; one from inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor


def _shares(targets: Tensor) -> Tensor:
    """Return targets if they are shares of classes; raise ValueError for those of several labels, or NaN."""
    sums = targets.detach().float().sum(1)
    if not bool((targets >= 0).all() and ((sums - 1).abs() <= ROUNDING).all()):  # a comparison with NaN is False
        raise ValueError(
            f"{NEEDS} class numbers as targets, or shares of classes, each at least 0 and 1 together in a row, got rows"
            f" whose sums are {float(sums.min()):g} to {float(sums.max()):g}; with several labels a row has no one"
            " class to attack."
        )
    return targets


def _precise(outputs: Tensor) -> Tensor:
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def _described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
