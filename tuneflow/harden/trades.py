"""TRADES: a loss that trades accuracy against the change of outputs under attack."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.compress.inner_loss import checked_inner
from tuneflow.harden.ascent import ascended
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.row_attack import box_for
from tuneflow.harden.threat import Box, Threat, checked_threat
from tuneflow.signature import name_of
from tuneflow.validate import check_positive, check_whole

START = 0.1  # of the radius: the divergence has no gradient at the rows themselves
STRIDE = 2.5  # radii, that all steps together are long


class TRADES:
    """A loss that makes outputs right, and the same for attacked inputs.

    It minimizes the loss of outputs and targets, plus `beta` times the Kullback-Leibler divergence between the
    probabilities for the inputs and for inputs within eps of them, which steps of gradient ascent make as large as they
    can. These run in evaluation mode, so that statistics of BatchNorm are those of the training passes. On validation
    rows the score is the loss of outputs and targets alone, so that trials with another beta compare.

    To tune it in the space's section `loss`, fix eps: `tn.Trainer(..., loss=functools.partial(tn.harden.TRADES, 0.1))`.

    Args:
        eps: the largest change, as a share of the box's width.
        beta: weight of the divergence, above 0; more makes the module more robust and less accurate.
        steps: of the ascent, each of them a forward and a backward pass.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        loss: function of outputs and targets with the mean as its reduction; None for `nn.CrossEntropyLoss()`.

    Raises:
        TypeError: `loss` is no function of outputs and targets.
        ValueError: another argument is out of its range, or the loss has another reduction or is to be fitted.

    Example:
        >>> module, batch = nn.Linear(4, 3), (torch.ones(2, 4), torch.tensor([0, 2]))
        >>> loss = TRADES(eps=0.1, box=(0, 1))
        >>> bool(loss.loss_of(module, batch) > loss(module(batch[0]), batch[1]))
        True

    Source: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, Theoretically principled trade-off between robustness and
    accuracy, 2019.
    """

    raw_inputs = True
    uses_box = True

    def __init__(
        self,
        eps: float,
        beta: float = 6.0,
        steps: int = 7,
        norm: str = "linf",
        box: Box | None = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        checked_threat("TRADES", eps, norm, box)
        check_positive("TRADES: beta", beta)
        self.eps, self.beta, self.steps = eps, float(beta), check_whole("TRADES: steps", steps)
        self.norm, self.box = norm, box
        self.loss = checked_inner("TRADES", nn.CrossEntropyLoss() if loss is None else loss)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of outputs and targets alone."""
        value: Tensor = self.loss(outputs, targets)
        return value

    def __repr__(self) -> str:
        return f"TRADES({self.eps:g}, beta={self.beta:g}, steps={self.steps}, {self.norm}, {name_of(self.loss)})"

    def loss_of(self, module: nn.Module, batch: tuple[Any, Any]) -> Tensor:
        """Return the loss of a batch.

        Args:
            module: takes raw inputs and gives logits; its modes are restored after the ascent.
            batch: one tensor of raw inputs, and class numbers.

        Raises:
            TypeError, ValueError: these are of another kind, or nothing says what the box is.
        """
        inputs, targets = batch
        attacked = AttackedModule(module)
        perturbed = self._perturbed(attacked, attacked.rows(inputs))
        outputs = module(inputs)
        clean = functional.log_softmax(attacked.as_logits(outputs), 1)
        attacked.classes(targets, clean)
        other = functional.log_softmax(attacked.logits_of(module, perturbed), 1)
        return self(outputs, targets) + self.beta * _divergence(clean, other) / len(inputs)

    def _perturbed(self, attacked: AttackedModule, inputs: Tensor) -> Tensor:
        """Return rows at which the outputs are far from those at the inputs, in evaluation mode."""
        threat = Threat(self.eps, self.norm, box_for("TRADES", self.box, attacked))
        threat.check_holds("TRADES", inputs)
        with attacked.evaluating():
            clean = functional.log_softmax(attacked.logits(inputs), 1)

            def divergence(rows: Tensor) -> Tensor:
                logits = attacked.logits_of(attacked.forms[attacked.first], rows)
                return _divergence(clean, functional.log_softmax(logits, 1))

            start = _near(inputs, threat)
            perturbed = ascended(divergence, start, inputs, threat, STRIDE * threat.radius / self.steps, self.steps)
        threat.check(perturbed, inputs)
        return perturbed


def _near(inputs: Tensor, threat: Threat) -> Tensor:
    """Return rows close to `inputs`; drawn on the CPU, row by row, so that parts of a batch draw as the whole."""
    signs = torch.where(torch.rand(inputs.shape) < 0.5, -1.0, 1.0).to(inputs)
    return threat.project(inputs + START * threat.radius * threat.direction(signs), inputs)


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum over rows of the divergence of `other` from `one`, both logarithms of probabilities."""
    return functional.kl_div(other, one, reduction="sum", log_target=True)
