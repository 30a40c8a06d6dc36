"""Augmentation: changes a training batch, from its inputs alone or from module, inputs and targets."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tuneflow.data.data import Batch
from tuneflow.nested import mapped
from tuneflow.signature import name_of, parameters_of


class Augmentation:
    """A trainer's `augment`, called with whole batches.

    Args:
        augment: a function of inputs; or a callable that requires three positional arguments, `(module, inputs,
            targets)`, and returns inputs and targets; None leaves batches as they are.

    Attributes:
        sees_module: True if it requires the three arguments.
    """

    def __init__(self, augment: Callable[..., Any] | None) -> None:
        self._augment = augment
        self.sees_module = augment is not None and sees_module(augment)

    def __call__(self, module: nn.Module | None, batch: Batch) -> Batch:
        """Return the augmented batch, in the units of the data.

        Args:
            module: takes raw inputs and gives outputs in the targets' units; its modes are restored. Not used where
                the augmentation does not see it.
            batch: inputs and targets.

        Raises:
            TypeError: three arguments came back as something else than inputs and targets.
        """
        if self._augment is None:
            return batch
        inputs, targets = batch
        if not self.sees_module or module is None:
            return self._augment(inputs), targets
        modes = [(part, part.training) for part in module.modules()]
        pair = self._augment(module, inputs, targets)
        for part, mode in modes:
            part.training = mode
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                f"augment {name_of(self._augment)}(module, inputs, targets) needs to return a pair (inputs, targets),"
                f" got {type(pair).__name__}."
            )
        return mapped(Tensor.detach, pair[0]), mapped(Tensor.detach, pair[1])

    @property
    def watches_epochs(self) -> bool:
        """True if it has a method `after_epoch(module, inputs, targets)`, which returns a warning, empty for none."""
        return callable(getattr(self._augment, "after_epoch", None))

    def after_epoch(self, module: nn.Module, batch: Batch) -> str:
        """Return the warning that it has after an epoch of training; empty where it has none.

        Args:
            module: as in a call; it is in evaluation mode for the time of this one.
            batch: raw training rows and their targets.
        """
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        text: str = self._augment.after_epoch(module, *batch)  # type: ignore[union-attr]
        for part, mode in modes:
            part.training = mode
        return text or ""


def sees_module(augment: Callable[..., Any]) -> bool:
    """True if a callable requires three positional arguments; of a module, those of its forward."""
    parameters = parameters_of(augment.forward if isinstance(augment, nn.Module) else augment) or []
    positional = (p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return len([p for p in positional if p.default is p.empty]) == 3
