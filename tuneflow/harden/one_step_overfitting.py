"""Overfitting to attacks of one step: the accuracy under one step of full size, against that under several."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from tuneflow.harden.ascent import ascended
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.threat import Threat

STEPS, STRIDE = 7, 2.5  # of the attack in several steps; all of them together are so many radii long
GAP, SHARE = 0.3, 0.2  # accuracy under several steps that is so much below the other, and at most such a share of it
LEAST = 32  # rows; of fewer, such a gap may be chance, as in a dry run of a few


@dataclass(frozen=True)
class StepAccuracies:
    """Accuracies on the same perturbed rows.

    Attributes:
        rows: number of rows.
        one: under one step of full size, from the rows themselves.
        several: under several steps, from a random start.
    """

    rows: int
    one: float
    several: float

    @classmethod
    def of(cls, attacked: AttackedModule, inputs: Tensor, targets: Tensor, threat: Threat) -> Self:
        """Return the accuracies of a module in evaluation mode; draws from torch's global generator."""
        loss = attacked.cross_entropy(attacked.first, targets)

        def accuracy(rows: Tensor) -> float:
            logits = attacked.logits(rows)
            return float((logits.argmax(1) == attacked.classes(targets, logits)).float().mean())

        one = ascended(loss, inputs, inputs, threat, threat.radius)
        step = STRIDE * threat.radius / STEPS
        several = ascended(loss, threat.random_start(inputs), inputs, threat, step, STEPS)
        return cls(len(inputs), accuracy(one), accuracy(several))

    @property
    def overfitted(self) -> bool:
        """True where one step harms far less than several, as it hardly does after PGD; not of few rows."""
        return self.rows >= LEAST and self.one - self.several >= GAP and self.several <= SHARE * self.one

    def __str__(self) -> str:
        return (
            f"of {self.rows} training rows, {100 * self.one:.0f} % are classified right after one step of FGSM, and"
            f" {100 * self.several:.0f} % after {STEPS} of PGD"
        )
