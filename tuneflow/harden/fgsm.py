"""FGSM: one step along the gradient's sign."""

import torch
from torch import Tensor

from tuneflow.harden.ascent import ascended
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.threat import Threat


class FGSM(Attack):
    """The fast gradient sign method: one step of the full size that raises the cross-entropy.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.

    Raises:
        ValueError: one of these is out of its range.

    Source: Goodfellow, Shlens, Szegedy, Explaining and harnessing adversarial examples, 2015.
    """

    def perturb(
        self,
        attacked: AttackedModule,
        form: str,
        inputs: Tensor,
        targets: Tensor,
        threat: Threat,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Tensor:
        loss = attacked.cross_entropy(form, targets)
        return ascended(loss, inputs, inputs, threat, threat.radius)
