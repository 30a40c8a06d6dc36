"""Attack: the base of all attacks, which is an augmentation too."""

from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.threat import Box, Threat, checked_threat


class Attack:
    """Base of attacks; called as an augmentation, `(module, inputs, targets)`, it returns perturbed inputs and targets.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.

    Raises:
        ValueError: one of these is out of its range.
    """

    uses_box = True  # the session attaches the range of the training rows to the module

    def __init__(self, eps: float, norm: str = "linf", box: Box | None = None) -> None:
        checked_threat(type(self).__name__, eps, norm, box)
        self.eps, self.norm, self.box = eps, norm, box

    def perturb(
        self,
        attacked: AttackedModule,
        form: str,
        inputs: Tensor,
        targets: Tensor,
        threat: Threat,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return perturbed rows, within the threat.

        Args:
            attacked: the module, in evaluation mode.
            form: name of the form that gradients are taken through.
            inputs: floating-point rows.
            targets: their classes, shape (rows,).
            threat: what is allowed.
            generator: of random numbers, on the inputs' device; None for torch's global one.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method perturb")

    def __call__(self, module: nn.Module, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Return the rows of a batch as the attack perturbs them, and their targets.

        Args:
            module: takes raw inputs; its modes are restored.
            inputs: one tensor of raw inputs.
            targets: class numbers, shape (rows,).

        Raises:
            ValueError: neither `box=` nor the module's record says what the box is.
        """
        attacked = AttackedModule(module)
        with attacked.evaluating():
            inputs = attacked.rows(inputs)
            if not len(inputs):
                return inputs, targets
            threat = Threat(self.eps, self.norm, self.box_of(attacked))
            threat.check_holds(type(self).__name__, inputs)
            perturbed = self.perturb(attacked, attacked.first, inputs, targets, threat)
            threat.check(perturbed, inputs)
        return perturbed, targets

    def box_of(self, attacked: AttackedModule) -> Box:
        """Return the box that holds for a module; raise ValueError where there is none."""
        return box_for(type(self).__name__, self.box, attacked)


def box_for(what: str, box: Box | None, attacked: AttackedModule) -> Box:
    """Return the box of an attack or loss, or else that of the rows that its module was trained on.

    Args:
        what: opens the message, such as "PGD".
        box: the one that was said; None for none.
        attacked: the module.

    Raises:
        ValueError: there is none.
    """
    box = box or attacked.box
    if box is None:
        raise ValueError(
            f"{what} needs the range of inputs, which a study tells it where it is `augment` or `loss` itself, not"
            " inside of another function, and not where the module comes from no study; say it, such as box=(0, 1)."
        )
    return box
