"""Threat: the inputs that an attack may replace a row by."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuneflow.validate import check_positive, check_word, is_number

NORMS = ("linf", "l2")
TOLERANCE = 1e-6  # of the box's width, by which arithmetic may pass a bound beside its rounding

Box = tuple[float, float]


@dataclass(frozen=True)
class Threat:
    """Rows within a box, and within a ball around the row that was there before.

    Attributes:
        eps: the ball's radius, as a share of the box's width; above 0.
        norm: "linf" bounds the change of each value, "l2" the root of the sum of their squares over a row.
        box: the lowest and the highest value that inputs can have, in raw units.
    """

    eps: float
    norm: str
    box: Box

    @property
    def width(self) -> float:
        """The box's width, in raw units."""
        return self.box[1] - self.box[0]

    @property
    def radius(self) -> float:
        """The ball's radius, in raw units."""
        return self.eps * self.width

    def project(self, perturbed: Tensor, inputs: Tensor) -> Tensor:
        """Return the perturbed rows, moved into ball and box.

        Args:
            perturbed: shape (rows, ...).
            inputs: the rows as they were, of the same shape.
        """
        return torch.clamp(inputs + self.within_ball(perturbed - inputs), *self.box)

    def within_ball(self, change: Tensor) -> Tensor:
        """Return changes of rows, shape (rows, ...), cut or scaled down to the radius."""
        if self.norm == "linf":
            return torch.clamp(change, -self.radius, self.radius)
        norms = row_norms(change)
        return change * (self.radius / norms.clamp(min=self.radius))

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest change of norm 1 along a gradient, shape (rows, ...); 0 where that is 0."""
        if self.norm == "linf":
            return gradient.sign()
        tiny = torch.finfo(gradient.dtype).tiny
        scaled = gradient / largest_values(gradient).clamp(min=tiny)  # whose squares are within the type's range
        return scaled / row_norms(scaled).clamp(min=tiny)

    def random_start(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return rows drawn at random within ball and box.

        Args:
            inputs: the rows, shape (rows, ...).
            generator: draws on the inputs' device; None for torch's global one.
        """
        if self.norm == "linf":
            change = (2 * torch.rand(inputs.shape, generator=generator, device=inputs.device) - 1) * self.radius
            return self.project(inputs + change.to(inputs.dtype), inputs)
        change = torch.randn(inputs.shape, generator=generator, device=inputs.device)
        lengths = torch.rand(len(inputs), generator=generator, device=inputs.device)
        values = max(1, inputs[0].numel())  # of a row; uniform in the ball
        change = self.direction(change) * (self.radius * lengths ** (1 / values)).reshape(_per_row(inputs))
        return self.project(inputs + change.to(inputs.dtype), inputs)

    def check_holds(self, what: str, inputs: Tensor) -> None:
        """Raise ValueError unless the box holds these rows; a message begins with `what`, such as "PGD"."""
        low, high = (float(value) for value in inputs.aminmax())
        slack = self._slack(inputs.dtype)
        if low < self.box[0] - slack or high > self.box[1] + slack:
            raise ValueError(
                f"{what}: box needs to hold all inputs, in their raw units, got ({self.box[0]:g}, {self.box[1]:g}) for"
                f" inputs from {low:g} to {high:g}; without it a study takes the range of the training rows."
            )

    def check(self, perturbed: Tensor, inputs: Tensor) -> None:
        """Raise AssertionError unless every perturbed row is finite and within ball and box, up to float arithmetic."""
        slack, change = self._slack(perturbed.dtype), perturbed.double() - inputs.double()
        values = 1 if self.norm == "linf" else max(1, change[0].numel())  # whose rounding adds up
        size = change.abs().amax() if self.norm == "linf" else row_norms(change).amax()
        inside = bool((perturbed >= self.box[0] - slack).all() and (perturbed <= self.box[1] + slack).all())
        if not (inside and float(size) <= self.radius + slack * values**0.5):  # a comparison with NaN is False
            raise AssertionError(
                f"an attack gave rows outside of the box {self.box} or of the ball of radius {self.radius:g}"
                f" ({self.norm}), or not finite: this is a fault of the attack."
            )

    def _slack(self, dtype: torch.dtype) -> float:
        """Return the distance by which the arithmetic of a type may pass a bound."""
        return TOLERANCE * self.width + torch.finfo(dtype).eps * max(map(abs, self.box))


def largest_values(values: Tensor) -> Tensor:
    """Return the largest absolute value of each row, in a shape that broadcasts against (rows, ...)."""
    return values.abs().reshape(len(values), -1).amax(1).reshape(_per_row(values))


def row_norms(values: Tensor) -> Tensor:
    """Return the l2 norm of each row, in a shape that broadcasts against (rows, ...)."""
    flat = values.flatten(1) if values.ndim > 1 else values[:, None]
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norms.reshape(_per_row(values))


def checked_threat(what: str, eps: Any, norm: Any, box: Any) -> None:
    """Raise unless these are the settings of a threat; `box` may be None.

    Args:
        what: opens the message, such as "PGD".
        eps: a share of the box's width.
        norm: one of NORMS.
        box: (low, high), or None.

    Raises:
        ValueError: one is not; the message names it.
    """
    check_word(f"{what}: norm", norm, NORMS)
    check_positive(f"{what}: eps", eps, kind="a share of the box's width, a number")
    if eps > 1 and norm == "linf":
        raise ValueError(f"{what}: eps is a share of the box's width, so at most 1, got {eps!r}.")
    check_box(what, box)


def check_box(what: str, box: Any) -> None:
    """Raise ValueError unless `box` is a pair (low, high) of numbers, or None; a message begins with `what`."""
    if box is None:
        return
    if not isinstance(box, tuple | list) or len(box) != 2 or not all(map(is_number, box)) or not box[0] < box[1]:
        raise ValueError(f"{what}: box needs a pair (low, high) of numbers with low < high, got {box!r}.")


def _per_row(values: Tensor) -> tuple[int, ...]:
    return (len(values), *[1] * (values.ndim - 1))
