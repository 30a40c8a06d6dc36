"""Attack: every attack on a trained module, row by row the worst, with what makes the numbers doubtful."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tuneflow.data.sources import as_source
from tuneflow.harden.apgd import APGD
from tuneflow.harden.attack_table import AttackScore, AttackTable
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.attacked_rows import check_arguments, chosen_rows, chunks, threat_of
from tuneflow.harden.fgsm import FGSM
from tuneflow.harden.pgd import PGD
from tuneflow.harden.remarks import (
    FLOAT,
    remark_on_blind,
    remark_on_bounded,
    remark_on_decisions,
    remark_on_flat,
    remarks_on,
)
from tuneflow.harden.rescaled_logits import add_rescaled
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.row_margins import Margins
from tuneflow.harden.square import Square
from tuneflow.harden.survival import Survival, check_by_row
from tuneflow.harden.threat import Box, Threat
from tuneflow.measure.forward_pass import measuring
from tuneflow.validate import is_int

STEPS, QUERIES = 50, 1000
WAY = "a result has a method for it: study.best.attack(data, eps=...)"


def attack(
    module: nn.Module,
    data: Any,
    *,
    eps: float,
    norm: str = "linf",
    box: Box | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> AttackTable:
    """Attack a trained module in every way, and return the rows that withstand each attack, and all of them.

    Each row counts by the worst: it is robust if its class is right, and stays so under every attack. Each attack runs
    on all rows that are right, so that attacks can be compared; where one that should be weaker breaks more rows, a
    remark says what that means. Every perturbed row is checked to lie within box and ball, and is scored by the module
    as it is, whatever its gradients were taken through. The share is an upper bound: other attacks may break more.

    Gradient ascent takes 50 steps and Square 1,000 queries: on digits and a small convolutional net, six times as many
    steps lowered an attack's share by half a point at most, and five times as many queries Square's by 1 to 5 points.
    360 rows take 4 to 10 seconds on one core, of which Square takes most where a module withstands it.

    Args:
        module: takes raw inputs, one tensor, and gives logits of classes; it is not changed.
        data: a tn.Data, a pair (inputs, targets), a Dataset or a DataLoader.
        eps: the largest change, as a share of the box's width.
        norm: "linf", each value, or "l2", the root of the sum of squares over a row.
        box: (low, high) of inputs in raw units; None for the range of the rows that the module was trained on where it
            is known, else the range of `data`.
        rows: number of rows to attack, drawn evenly and always the same; None for all.
        seed: of random starts and random search.

    Raises:
        ValueError: an argument is out of its range, the box does not hold the data, or outputs are no logits of
            classes.
        TypeError: it is no module, or inputs are not one tensor of numbers.

    Example:
        >>> torch.manual_seed(0) and None
        >>> data = (torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8))
        >>> table = attack(nn.Identity(), data, eps=0.4)
        >>> table.clean.value, table.robust.value, attack(nn.Identity(), data, eps=0.6).robust.value
        (1.0, 1.0, 0.0)

    Source: Croce, Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, 2020.
    """
    check_arguments("attack", module, eps, norm, box, rows, WAY)
    if not is_int(seed):
        raise TypeError(f"attack: seed needs to be a whole number, got {seed!r}.")
    attacked, source = AttackedModule(module), as_source(data, "attack: data")
    order = chosen_rows(len(source), rows)
    with measuring(module), attacked.evaluating():
        threat, told = threat_of(attacked, source, eps, norm, box)
        survival = Survival(attacked, battery(threat), threat, seed)
        for number, (inputs, targets) in enumerate(chunks(attacked, source, order)):
            threat.check_holds("attack", inputs)
            if number == 0:
                check_by_row("attack", attacked, inputs)
                add_rescaled(attacked, inputs)
            survival.add(inputs, targets)
    return _table(survival, eps, *((told, []) if box is None else ([], told)))


def battery(threat: Threat) -> Mapping[str, Attack]:
    """Return all attacks, by name."""
    where = (threat.eps, threat.norm, threat.box)
    return {
        "FGSM": FGSM(*where),
        "PGD": PGD(*where, steps=STEPS),
        "APGD-CE": APGD(*where, loss="ce", steps=STEPS),
        "APGD-DLR": APGD(*where, loss="dlr", steps=STEPS),
        "Square": Square(*where, queries=QUERIES),
    }


def _table(survival: Survival, eps: float, notes: list[str], doubts: list[str]) -> AttackTable:
    right = torch.cat(survival.right)
    attacks = [
        AttackScore(name, form, torch.cat(survival.survived[name, form]), survival.seconds[name, form])
        for name, form in survival.lines
    ]
    passed = "straight-through" in survival.seen  # and not stopped by a sanitizer, whose own gradient may be 0
    doubts = [
        *doubts,
        remark_on_decisions(torch.cat(survival.decided), torch.cat(survival.targets)),
        remark_on_bounded(survival.bounded),
        *map(remark_on_blind, survival.blind),
        *(
            remark_on_flat(form, flat, int(right.sum()))
            for form, flat in survival.flat.items()
            if not passed or form not in ("own", "float")
        ),
    ]
    threat, remarks = survival.threat, (*filter(None, doubts), *remarks_on(right, attacks))
    values = torch.cat(survival.margins) * (eps / threat.radius) if survival.margins else None
    margins = None if values is None else Margins(values, threat.norm, eps)
    forms = [FLOAT] if "float" in survival.attacked.forms else []
    return AttackTable(threat, right, attacks, remarks, margins, (*notes, *forms))
