"""APGD: gradient ascent that chooses the length of its steps by itself, on the cross-entropy or on the margin."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from tuneflow.harden.ascent import gradient_at
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.threat import Box, Threat
from tuneflow.metrics.classes import accuracy
from tuneflow.validate import check_whole, check_word

MOMENTUM = 0.75  # weight of a step; the rest is that of the step before
RISES = 0.75  # share of the steps since the last check that must have raised the loss
LEAST_SPREAD = 1e-12  # of three logits: between equal ones the gradient stays finite
FIRST_CHECK, LESS, LEAST = 0.22, 0.03, 0.06  # shares of the steps: until the first check, and between the next ones


class APGD(Attack):
    """Gradient ascent with momentum, whose steps begin at twice the radius and are halved row by row.

    At some of the steps it checks each row: where the loss has risen too seldom, or its maximum has not since the last
    check, the step is halved and the row goes on from its best point. The best point is what counts.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf" or "l2".
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        loss: "ce", the cross-entropy, or "dlr": the largest other logit minus that of the row's class, over the
            largest minus the third, which no factor on the logits changes; for two classes without the divisor.
        steps: number of steps.
        restarts: number of random starts; the best of a row counts.

    Raises:
        ValueError: one of these is out of its range.

    Example:
        >>> rows, classes = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> moved, _ = APGD(eps=0.1, box=(0, 16), loss="dlr", steps=5)(torch.nn.Linear(3, 4), rows, classes)
        >>> bool(moved.min() >= 0), bool(moved.max() <= 1.6)
        (True, True)

    Source: Croce, Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, 2020.
    """

    def __init__(
        self,
        eps: float,
        norm: str = "linf",
        box: Box | None = None,
        loss: str = "ce",
        steps: int = 50,
        restarts: int = 1,
    ) -> None:
        super().__init__(eps, norm, box)
        self.loss = check_word("APGD: loss", loss, LOSSES)
        self.steps, self.restarts = check_whole("APGD: steps", steps), check_whole("APGD: restarts", restarts)

    def perturb(
        self,
        attacked: AttackedModule,
        form: str,
        inputs: Tensor,
        targets: Tensor,
        threat: Threat,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        def look(rows: Tensor) -> _Point:
            return _point(attacked, form, rows, targets, LOSSES[self.loss])

        best = self._ascended(look, inputs, threat, generator)
        for _ in range(self.restarts - 1):
            best.take(self._ascended(look, inputs, threat, generator))
        return best.rows

    def _ascended(
        self, look: "Callable[[Tensor], _Point]", inputs: Tensor, threat: Threat, generator: torch.Generator | None
    ) -> "_Point":
        """Return the best points of one ascent; a point at which the class is lost comes before all others."""
        here = look(threat.random_start(inputs, generator))
        highest, best, pace = here.copy(), here.copy(), _Pace(here.losses, threat.radius)
        before, ends = here.rows, check_steps(self.steps)
        for step in range(1, self.steps + 1):
            rows = threat.project(here.rows + pace.lengths_of(inputs) * threat.direction(here.gradient), inputs)
            if step > 1:
                change = MOMENTUM * (rows - here.rows) + (1 - MOMENTUM) * (here.rows - before)
                rows = threat.project(here.rows + change, inputs)
            before, last, here = here.rows, here.losses, look(rows)
            highest.take_higher(here)
            best.take(here)
            pace.rises += here.losses > last
            if step in ends:
                halved = pace.halve(highest.losses, ends[step])
                here.rows = _chosen(halved, highest.rows, here.rows)
                here.gradient = _chosen(halved, highest.gradient, here.gradient)
        return best


@dataclass
class _Point:
    """Rows, with what the module gives for them.

    Attributes:
        rows: shape (rows, ...).
        losses: that are to rise, shape (rows,).
        lost: True where the class is lost, shape (rows,).
        gradient: of the losses, in the shape of the rows.
    """

    rows: Tensor
    losses: Tensor
    lost: Tensor
    gradient: Tensor

    def copy(self) -> "_Point":
        return _Point(self.rows.clone(), self.losses.clone(), self.lost.clone(), self.gradient.clone())

    def take_higher(self, other: "_Point") -> None:
        """Take those rows of another point whose loss is higher."""
        self._put(other.losses > self.losses, other)

    def take(self, other: "_Point") -> None:
        """Take rows whose class is lost where it was not yet, or else whose loss is higher."""
        higher = other.losses > self.losses
        self._put((other.lost & ~self.lost) | ((other.lost == self.lost) & higher), other)

    def _put(self, where: Tensor, other: "_Point") -> None:
        for name in ("rows", "losses", "lost", "gradient"):
            getattr(self, name)[where] = getattr(other, name)[where]


class _Pace:
    """The length of each row's steps, and what decides on halving it.

    Attributes:
        rises: number of steps since the last check that raised the loss, shape (rows,).
    """

    def __init__(self, losses: Tensor, radius: float) -> None:
        self.lengths = torch.full_like(losses, 2 * radius)
        self.rises = torch.zeros_like(losses)
        self._halved = torch.ones_like(losses, dtype=torch.bool)
        self._highest = losses.clone()

    def lengths_of(self, inputs: Tensor) -> Tensor:
        """Return the lengths in a shape that broadcasts against rows."""
        return self.lengths.to(inputs.dtype).reshape(-1, *[1] * (inputs.ndim - 1))

    def halve(self, highest: Tensor, steps: int) -> Tensor:
        """Halve the steps of rows that have not come on; return True for them.

        Args:
            highest: losses so far, shape (rows,).
            steps: number of steps since the last check.
        """
        halved = (self.rises < RISES * steps) | (~self._halved & (highest <= self._highest))
        self.lengths = torch.where(halved, self.lengths / 2, self.lengths)
        self.rises, self._halved, self._highest = torch.zeros_like(self.rises), halved, highest.clone()
        return halved


def _chosen(where: Tensor, values: Tensor, others: Tensor) -> Tensor:
    return torch.where(where.reshape(-1, *[1] * (values.ndim - 1)), values, others)


def check_steps(steps: int) -> dict[int, int]:
    """Return the steps after which rows are checked, with the number of steps since the check before."""
    ends, last, share, before = dict[int, int](), 0, FIRST_CHECK, 0.0
    while (end := ceil(round(share * steps, 9))) <= steps:
        if end > last:
            ends[end], last = end - last, end
        share, before = share + max(share - before - LESS, LEAST), share
    return ends


def _point(
    attacked: AttackedModule, form: str, rows: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> _Point:
    with torch.enable_grad():
        leaf = rows.detach().clone().requires_grad_()
        logits = attacked.logits_of(attacked.forms[form], leaf)
        classes = attacked.classes(targets, logits)
        numbers = classes.argmax(1) if classes.ndim == 2 else classes
        losses = loss(logits, numbers)
        gradient = gradient_at(losses.sum(), leaf)
    lost = ~accuracy(logits.detach(), numbers).bool()
    losses = torch.nan_to_num(losses.detach(), nan=-torch.inf)
    return _Point(leaf.detach(), losses, lost, gradient)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def difference_of_logits_ratio(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the negative margin of each row over the largest logit minus the third; for two classes without divisor.

    Args:
        logits: shape (rows, classes).
        targets: class numbers, shape (rows,).

    Example:
        >>> difference_of_logits_ratio(torch.tensor([[4.0, 2.0, 0.0], [4.0, 2.0, 0.0]]), torch.tensor([0, 1]))
        tensor([-0.5000,  0.5000])
    """
    margin = logit_margin(logits, targets)
    if logits.shape[1] < 3:
        return -margin
    largest = logits.topk(3, dim=1).values
    return -margin / (largest[:, 0] - largest[:, 2]).clamp(min=LEAST_SPREAD)


LOSSES = {"ce": _cross_entropy, "dlr": difference_of_logits_ratio}
