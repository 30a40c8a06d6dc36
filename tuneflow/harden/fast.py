"""Fast: one step from a random start, for training; it is watched for overfitting to itself."""

from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.harden.ascent import ascended
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.one_step_overfitting import StepAccuracies
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.threat import Box, Threat
from tuneflow.validate import check_positive


class Fast(Attack):
    """One step of gradient ascent from a random start: training with it costs two passes a batch.

    A module can learn to withstand this one step and nothing else. So after each epoch of training it is attacked by
    FGSM and by some steps of PGD, on the first 64 training rows; a trial in which the first fails where the second
    succeeds is warned of.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        step: length of the step, as a multiple of `eps`; beyond 1.25 it overfits more easily.

    Raises:
        ValueError: one of these is out of its range.

    Example:
        >>> rows, classes = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> moved, _ = Fast(eps=0.1, box=(0, 16))(nn.Linear(3, 2), rows, classes)
        >>> bool(moved.min() >= 0), bool(moved.max() <= 1.6)
        (True, True)

    Source: Wong, Rice, Kolter, Fast is better than free: revisiting adversarial training, 2020.
    """

    def __init__(self, eps: float, norm: str = "linf", box: Box | None = None, step: float = 1.25) -> None:
        super().__init__(eps, norm, box)
        check_positive("Fast: step", step, kind="a multiple of eps, a number")
        self.step = step

    def perturb(
        self,
        attacked: AttackedModule,
        form: str,
        inputs: Tensor,
        targets: Tensor,
        threat: Threat,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        loss = attacked.cross_entropy(form, targets)
        return ascended(loss, threat.random_start(inputs, generator), inputs, threat, self.step * threat.radius)

    def after_epoch(self, module: nn.Module, inputs: Any, targets: Any) -> str:
        """Return a warning where the module withstands one step and not several; empty where it does not.

        Args:
            module: takes raw inputs.
            inputs: raw training rows.
            targets: their classes.
        """
        attacked = AttackedModule(module)
        with attacked.evaluating():
            threat = Threat(self.eps, self.norm, self.box_of(attacked))
            accuracies = StepAccuracies.of(attacked, attacked.rows(inputs), targets, threat)
        if not accuracies.overfitted:
            return ""
        return (
            f"Fast(eps={self.eps:g}, step={self.step:g}): {accuracies}. Training with one step has overfitted to that"
            " step (catastrophic overfitting), and the module is open to every other attack. Take tn.harden.PGD, a"
            " smaller step or eps, or fewer epochs; tn.harden.Robust measures it in each epoch."
        )
