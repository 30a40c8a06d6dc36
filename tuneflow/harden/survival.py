"""Survival: the rows that withstand attacks, found out chunk by chunk, and facts of the gradients beside them."""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuneflow.harden.ascent import gradient_if_any
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.first_order import first_order_margins
from tuneflow.harden.row_attack import Attack
from tuneflow.harden.square import Square
from tuneflow.harden.threat import Threat
from tuneflow.metrics.classes import accuracy
from tuneflow.seeds import torch_stream

ALONE = 8  # rows whose outputs are compared with those of the rows beside them
FAR = 0.05  # of the logits' spread, by which outputs may differ for the arithmetic alone

Line = tuple[str, str]  # an attack's name, and the form that its gradients were taken through; "" for none


@dataclass
class Survival:
    """The rows that are right, and those that are so under each attack.

    Args:
        attacked: the module, in evaluation mode.
        attacks: by name.
        threat: what is allowed.
        seed: of all random numbers.

    Attributes:
        right: a boolean tensor for each chunk.
        decided: the classes that the module decides for, for each chunk.
        targets: the classes that rows have, for each chunk.
        bounded: True while no logit was below 0 or above 1.
        margins: the rows' first-order margins in raw units, for each chunk; none without a gradient.
        survived: the same for each attack and form.
        seconds: of each attack and form.
        flat: the number of right rows at which the gradient of the cross-entropy is 0, by form.
        blind: the forms through which no gradient can be taken.
    """

    attacked: AttackedModule
    attacks: Mapping[str, Attack]
    threat: Threat
    seed: int = 0
    right: list[Tensor] = field(default_factory=list)
    decided: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    bounded: bool = True
    margins: list[Tensor] = field(default_factory=list)
    survived: dict[Line, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    seconds: dict[Line, float] = field(default_factory=lambda: defaultdict(float))
    flat: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    blind: list[str] = field(default_factory=list)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Attack the rows of a chunk that are right.

        Args:
            inputs: floating-point rows on the module's device.
            targets: their classes.
        """
        logits = self.attacked.logits(inputs)
        right = accuracy(logits, targets).bool()
        self.decided.append(logits.argmax(1).cpu())
        self.targets.append(targets.cpu())
        self.bounded = self.bounded and bool(((logits >= 0) & (logits <= 1)).all())
        rows, classes = inputs[right], targets[right]
        if not self.right:
            self.blind = [form for form in self.attacked.forms if self._flat(form, inputs, targets) is None]
        for name, form in self.lines:
            started = now(inputs.device)
            survived = right.clone()
            if len(rows):
                survived[right] = self._survived(name, form, rows, classes)
            self.survived[name, form].append(survived.cpu())
            self.seconds[name, form] += now(inputs.device) - started
        for form in self.seen:
            if len(rows):
                self.flat[form] += int(self._flat(form, rows, classes).sum())  # type: ignore[union-attr]
        if self.seen:
            self.margins.append(first_order_margins(self.attacked, self.seen, inputs, targets, self.threat.norm).cpu())
        self.right.append(right.cpu())

    @property
    def seen(self) -> list[str]:
        """The forms that gradients can be taken through."""
        return [form for form in self.attacked.forms if form not in self.blind]

    @property
    def lines(self) -> list[Line]:
        """The attacks with the forms that they run through."""
        return [
            (name, form)
            for name, attack in self.attacks.items()
            for form in ([""] if isinstance(attack, Square) else self.seen)
        ]

    def _survived(self, name: str, form: str, rows: Tensor, classes: Tensor) -> Tensor:
        """Return True for rows that are right under an attack, in either of two batches."""
        generator = torch_stream(self.seed, "attack", name, form, len(self.right), device=rows.device)
        attack, through = self.attacks[name], form or next(iter(self.attacked.forms))
        perturbed = attack.perturb(self.attacked, through, rows, classes, self.threat, generator).detach()
        self.threat.check(perturbed, rows)
        turned = accuracy(self.attacked.logits(perturbed.flip(0)), classes.flip(0)).bool().flip(0)
        return accuracy(self.attacked.logits(perturbed), classes).bool() | turned

    def _flat(self, form: str, rows: Tensor, classes: Tensor) -> Tensor | None:
        """Return True for rows at which the gradient is 0; None where there is no gradient."""
        gradient = gradient_if_any(self.attacked.cross_entropy(form, classes), rows)
        return None if gradient is None else (gradient == 0).reshape(len(rows), -1).all(1)


def check_by_row(what: str, attacked: AttackedModule, inputs: Tensor) -> None:
    """Raise ValueError unless the outputs of a row depend on that row alone, and are the same at every call."""
    together = attacked.logits(inputs)[:ALONE]
    alone = torch.cat([attacked.logits(row) for row in torch.split(inputs[:ALONE], 1)])
    difference = float((together - alone).nan_to_num().abs().max())
    spread = float(together.nan_to_num().std()) if together.numel() > 1 else 0.0
    if difference > FAR * spread + 1e-6 * float(together.nan_to_num().abs().max()):
        raise ValueError(
            f"{what}: the module's outputs for a row need to depend on that row alone, and they change with the rows"
            " beside it, or from call to call, in evaluation mode too; give layers that normalize by the batch running"
            " statistics, and leave out noise."
        )


def now(device: torch.device) -> float:
    """Return a time in seconds at which the device has done what it was given."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
    return time.perf_counter()
