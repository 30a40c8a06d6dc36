"""PGD: projected gradient ascent of the cross-entropy, from a random start."""

import torch
from torch import Tensor

from tuneflow.harden.ascent import ascended
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.threat import Box, Threat
from tuneflow.validate import check_flag, check_positive, check_whole

STRIDE = 2.5  # radii, that all steps together are long


class PGD(Attack):
    """Projected gradient descent: steps that raise the cross-entropy, each brought back into ball and box.

    As an augmentation it makes training as many times longer as it has steps, and one more.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        steps: number of steps.
        step: length of a step, as a multiple of `eps`; None for 2.5 / steps.
        random_start: begin at random within the ball; else at the inputs.

    Raises:
        ValueError: one of these is out of its range.

    Example:
        >>> rows, classes = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> moved, _ = PGD(eps=0.1, box=(0, 16), steps=3)(torch.nn.Linear(3, 2), rows, classes)
        >>> bool(moved.min() >= 0), bool(moved.max() <= 1.6)
        (True, True)

    Source: Madry, Makelov, Schmidt, Tsipras, Vladu, Towards deep learning models resistant to adversarial attacks,
    2018.
    """

    def __init__(
        self,
        eps: float,
        norm: str = "linf",
        box: Box | None = None,
        steps: int = 10,
        step: float | None = None,
        random_start: bool = True,
    ) -> None:
        super().__init__(eps, norm, box)
        self.steps = check_whole("PGD: steps", steps)
        if step is not None:
            check_positive("PGD: step", step, kind="a multiple of eps, a number")
        self.step, self.random_start = step, check_flag("PGD: random_start", random_start)

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
        start = threat.random_start(inputs, generator) if self.random_start else inputs
        step = (STRIDE / self.steps if self.step is None else self.step) * threat.radius
        return ascended(loss, start, inputs, threat, step, self.steps)
