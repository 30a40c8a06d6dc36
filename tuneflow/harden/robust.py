"""Robust: the share of validation rows that withstand attacks, as a metric of a module."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from tuneflow.data.data import Data
from tuneflow.data.sources import as_source
from tuneflow.errors import warn
from tuneflow.harden.apgd import APGD
from tuneflow.harden.attack_all import attacked_by, battery
from tuneflow.harden.attacked_rows import chosen_rows
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.square import Square
from tuneflow.harden.threat import Box, Threat, checked_threat
from tuneflow.metrics.measured import Measured, mean_of
from tuneflow.validate import check_whole

QUERIES = 30  # of Square after each epoch: few, for modules that hide their gradient


class Robust:
    """The share of rows that are right, and stay so under every attack: a metric of a module.

    After an epoch a few steps of APGD on the cross-entropy and on the difference of logits, and a short Square, attack
    some of the validation rows, always the same ones. That is cheap, and an upper bound. `study.test` and `Result.test`
    judge by the whole battery of `tn.harden.attack`, on all rows.

    Args:
        eps: the largest change, as a share of the box's width.
        norm: "linf", each value, or "l2", the root of the sum of squares over a row.
        box: (low, high) of inputs in raw units; None for the range of the training rows.
        every: number of epochs from one measurement to the next; the last epoch has one too.
        rows: number of validation rows to attack after an epoch; None for all.
        steps: of APGD, after an epoch.

    Raises:
        ValueError: one of these is out of its range.

    Example:
        >>> rows, classes = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
        >>> [Robust(eps).of_module(nn.Identity(), (rows, classes)).value for eps in (0.4, 0.6)]
        [1.0, 0.0]
    """

    uses_box = True
    higher_is_better = True

    def __init__(
        self,
        eps: float,
        norm: str = "linf",
        box: Box | None = None,
        every: int = 1,
        rows: int | None = 256,
        steps: int = 5,
    ) -> None:
        checked_threat("Robust", eps, norm, box)
        self.eps, self.norm, self.box = eps, norm, box
        self.every = check_whole("Robust: every", every)
        self.rows = None if rows is None else check_whole("Robust: rows", rows, otherwise="for 256")
        self.steps = check_whole("Robust: steps", steps)
        self._judges = False

    def for_test(self) -> Self:
        """Return the metric that judges a winner: by every attack, on all rows, with a warning of what is doubtful."""
        judge = copy.copy(self)
        judge.rows, judge._judges = None, True
        return judge

    def of_module(self, module: nn.Module, data: Any) -> Measured:
        """Return the share of rows that withstand the attacks, with its standard error.

        Random starts are drawn by the seed of torch's global generator, which a job sets.

        Args:
            module: takes raw inputs, one tensor, and gives logits of classes.
            data: raw rows and their classes, as a Trainer takes them.

        Raises:
            TypeError, ValueError: the module or the data are of another kind.
        """
        source = as_source(data, "Robust: data")
        order = chosen_rows(len(source), self.rows)
        few = source if len(order) == len(source) else Data(*next(iter(source.batches(len(order), order))))
        attacks = battery if self._judges else self._brief
        settings = self.eps, self.norm, self.box, torch.initial_seed()
        table = attacked_by(attacks, module, few, torch.arange(len(order)), *settings)
        if self._judges and table.remarks:
            warn(f"Robust: {' '.join(table.remarks)}")
        return mean_of(table.survived)

    def _brief(self, threat: Threat) -> Mapping[str, Attack]:
        """Return the attacks after an epoch."""
        where = (threat.eps, threat.norm, threat.box)
        return {
            "APGD-CE": APGD(*where, loss="ce", steps=self.steps),
            "APGD-DLR": APGD(*where, loss="dlr", steps=self.steps),
            "Square": Square(*where, queries=QUERIES),
        }
