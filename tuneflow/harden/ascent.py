"""Projected gradient ascent: steps of rows that raise an objective, within what a threat allows."""

from collections.abc import Callable

import torch
from torch import Tensor

from tuneflow.harden.threat import Threat

Objective = Callable[[Tensor], Tensor]


def ascended(
    objective: Objective, start: Tensor, inputs: Tensor, threat: Threat, step: float, steps: int = 1
) -> Tensor:
    """Return rows after steps in the steepest direction, each brought back into ball and box.

    Args:
        objective: maps rows to their sum of a value for each, so that no row's gradient depends on the others' number.
        start: the rows to begin with, shape (rows, ...).
        inputs: the rows as they were, in the ball's center.
        threat: what is allowed.
        step: length of a step, in raw units.
        steps: number of steps.
    """
    rows = start
    for _ in range(steps):
        rows = threat.project(rows + step * threat.direction(gradient_of(objective, rows)), inputs)
    return rows.detach()


def gradient_of(objective: Objective, rows: Tensor) -> Tensor:
    """Return the gradient of an objective with respect to rows; see `gradient_at`."""
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_()
        return gradient_at(objective(leaf), leaf)


def gradient_at(value: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of a value with respect to rows, 0 where it is not finite; parameters' are left alone.

    So a module whose outputs are NaN is attacked by rows within the threat, and the training loss is what diverges.

    Raises:
        ValueError: the value does not depend on the rows in a way that has a gradient.
    """
    gradient = torch.autograd.grad(value, rows, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise ValueError(
            "attacks by gradients need a module with a gradient of the outputs with respect to the inputs, and this one"
            " has none, as after .detach(), argmax or rounding; use tn.harden.Square, which takes logits alone."
        )
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def gradient_if_any(objective: Objective, rows: Tensor) -> Tensor | None:
    """Return what `gradient_of` does; None where no gradient can be taken through the objective."""
    with torch.enable_grad():
        leaf = rows.detach().clone().requires_grad_()
        value = objective(leaf)
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    return None if gradient is None else torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
