"""Attack: every attack on a trained module, row by row the worst, with what makes the numbers doubtful."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.data.input_range import range_of
from tuneflow.data.sources import Source, as_source
from tuneflow.harden.apgd import APGD
from tuneflow.harden.attack_table import AttackScore, AttackTable
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.fgsm import FGSM
from tuneflow.harden.pgd import PGD
from tuneflow.harden.remarks import FLOAT, remark_on_blind, remark_on_flat, remarks_on
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.square import Square
from tuneflow.harden.survival import Survival, check_by_row
from tuneflow.harden.threat import Box, Threat, checked_threat
from tuneflow.measure.forward_pass import device_of, measuring
from tuneflow.seeds import torch_stream
from tuneflow.validate import check_whole

CHUNK = 256  # rows that are attacked at once
STEPS, QUERIES = 50, 1000


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
    _check(module, eps, norm, box, rows)
    attacked, source = AttackedModule(module), as_source(data, "attack: data")
    order = chosen_rows(len(source), rows)
    with measuring(module), attacked.evaluating():
        threat, notes = _threat(attacked, source, eps, norm, box)
        survival = Survival(attacked, battery(threat), threat, seed)
        for number, (inputs, targets) in enumerate(_chunks(attacked, source, order)):
            threat.check_holds("attack", inputs)
            if number == 0:
                check_by_row(attacked, inputs)
            survival.add(inputs, targets)
    return _table(survival, notes)


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


def chosen_rows(count: int, rows: int | None) -> Tensor:
    """Return the numbers of the rows to attack, in rising order: always the same ones, drawn evenly; None for all."""
    if rows is None or rows >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=torch_stream("attacked rows"))[:rows].sort().values


def _check(module: Any, eps: Any, norm: Any, box: Any, rows: Any) -> None:
    if not isinstance(module, nn.Module):
        way = "; a result has a method for it: study.best.attack(data, eps=...)" if hasattr(module, "model") else ""
        raise TypeError(f"attack: module needs to be a torch module, got a {type(module).__name__}{way}.")
    checked_threat("attack", eps, norm, box)
    if rows is not None:
        check_whole("attack: rows", rows, otherwise="for all")


def _threat(
    attacked: AttackedModule, source: Source, eps: float, norm: str, box: Box | None
) -> tuple[Threat, list[str]]:
    """Return what is allowed, and remarks on it."""
    low, high = range_of(inputs for inputs, _ in source.batches(CHUNK))
    if box is not None:
        threat = Threat(eps, norm, box)
        share = (high - low) / threat.width
        filled = f"the data fill {100 * share:.2g} % of the box: eps is a share of the box's width, not of theirs."
        return threat, [filled] if share < 0.5 else []
    if attacked.box is None:
        return Threat(eps, norm, (low, high)), []
    trained = Threat(eps, norm, attacked.box)
    wider = min(low, trained.box[0]), max(high, trained.box[1])
    if wider == trained.box:
        return trained, []
    note = (
        f"values from {low:g} to {high:g} lie outside of the range of the training rows, {trained.box[0]:g} to"
        f" {trained.box[1]:g}; the box was widened to hold them, and the largest change is a share of the latter."
    )
    return Threat(trained.radius / (wider[1] - wider[0]), norm, wider), [note]


def _chunks(attacked: AttackedModule, source: Source, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and their classes on the module's device."""
    device = device_of(attacked.module)
    for inputs, targets in source.batches(CHUNK, order):
        rows = _normal(attacked.rows(inputs)).to(device)
        targets = _normal(targets).to(device) if isinstance(targets, Tensor) else targets
        classes = attacked.classes(targets, attacked.logits(rows))
        yield rows, classes.argmax(1) if classes.ndim == 2 else classes


def _normal(tensor: Tensor) -> Tensor:
    """Return a tensor that gradients can be taken of; one from inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor


def _table(survival: Survival, notes: list[str]) -> AttackTable:
    right = torch.cat(survival.right)
    attacks = [
        AttackScore(name, form, torch.cat(survival.survived[name, form]), survival.seconds[name, form])
        for name, form in survival.lines
    ]
    count = int(right.sum())
    facts = [
        *notes,
        *([FLOAT] if "float" in survival.attacked.forms else []),
        *map(remark_on_blind, survival.blind),
        *(remark_on_flat(form, flat, count) for form, flat in survival.flat.items()),
    ]
    return AttackTable(survival.threat, right, attacks, (*filter(None, facts), *remarks_on(right, attacks)))
