"""Remarks: what makes the numbers of an attack table doubtful, or needs to be known with them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tuneflow.harden.attack_table import AttackScore
from tuneflow.harden.rescaled_logits import RESCALED

ALARM = 3.1  # standard deviations of a difference between two attacks on the same rows: one false alarm in 1,000
MUCH = 0.05  # share of the rows that are right, by which attacks on the cross-entropy may be weaker than on the margin
SOME = 0.02  # the same for all other comparisons
FLAT = 0.1  # share of rows with a gradient of 0
GRADIENTS = ("FGSM", "PGD", "APGD-CE", "APGD-DLR")
OF_CROSS_ENTROPY = ("FGSM", "PGD", "APGD-CE")
FLOAT = "gradients are taken through the module in float; rows count by the converted one, such as int8."


def remarks_on(right: Tensor, attacks: Sequence[AttackScore]) -> list[str]:
    """Return what the comparison of attacks says.

    Two attacks are compared by the rows that only one of them breaks. A difference counts from some percent of the rows
    on that are right without an attack, and beyond 3.1 standard deviations of chance.

    Args:
        right: True for rows that are right without an attack, shape (rows,).
        attacks: those that were run, on the same rows.

    Source: McNemar, Psychometrika 12, 1947.
    """
    compared = _Compared(right, attacks)
    return [text for text in (_masked(compared), *_single_step(compared), _black_box(compared), _own(compared)) if text]


class _Compared:
    """Attacks on the same rows, and the rows that several together leave."""

    def __init__(self, right: Tensor, attacks: Sequence[AttackScore]) -> None:
        self.right, self.attacks = right, attacks

    @property
    def forms(self) -> list[str]:
        """The forms that gradients were taken through."""
        return list(dict.fromkeys(attack.form for attack in self.attacks if attack.form))

    def left_by(self, names: Iterable[str], *forms: str) -> Tensor | None:
        """Return True for rows that withstand all attacks of these names and forms, or any; None for no attack."""
        names = set(names)
        chosen = [each for each in self.attacks if each.name in names and (not forms or each.form in forms)]
        return torch.stack([each.survived for each in chosen]).all(0) if chosen else None

    def weaker(self, left: Tensor | None, by_other: Tensor | None, least: float) -> bool:
        """True if the other attacks break more rows than these, by so large a share and beyond chance."""
        if left is None or by_other is None:
            return False
        more, fewer = int((left & ~by_other).sum()), int((by_other & ~left).sum())
        return more - fewer >= least * int(self.right.sum()) and more - fewer > ALARM * (more + fewer) ** 0.5

    def text(self, left: Tensor | None) -> str:
        """Return the share of rows in words."""
        return "" if left is None else f"{100 * float(left.double().mean()):.1f} %"


def _masked(compared: _Compared) -> str:
    plain = [form for form in compared.forms if form != RESCALED]
    through, margin = compared.left_by(OF_CROSS_ENTROPY, *plain), compared.left_by(["APGD-DLR"])
    if not compared.weaker(through, margin, MUCH):
        return ""
    return (
        f"attacks on the cross-entropy leave {compared.text(through)} right, and the one on the margin"
        f" {compared.text(margin)}: the gradient of the cross-entropy is masked, for instance by large logits."
    )


def _single_step(compared: _Compared) -> list[str]:
    texts = []
    for form in compared.forms:
        once, often = compared.left_by(["FGSM"], form), compared.left_by(["PGD"], form)
        if compared.weaker(often, once, SOME):
            texts.append(
                f"FGSM leaves {compared.text(once)} right, and PGD with its many steps {compared.text(often)}: the"
                " gradient misleads near the rows, so attacks by gradients are weaker here than they look."
            )
    return texts


def _black_box(compared: _Compared) -> str:
    by_gradients, by_logits = compared.left_by(GRADIENTS), compared.left_by(["Square"])
    if not compared.weaker(by_gradients, by_logits, SOME):
        return ""
    return (
        f"Square, which sees logits alone, leaves {compared.text(by_logits)} right, and all attacks by gradients"
        f" {compared.text(by_gradients)}: gradients are masked, and other attacks may break more rows than these."
    )


def _own(compared: _Compared) -> str:
    own, through = (compared.left_by(GRADIENTS, form) for form in ("own", "straight-through"))
    if not compared.weaker(own, through, SOME):
        return ""
    return (
        f"attacks through the module's own gradient leave {compared.text(own)} right, and those that pass the cleaning"
        f" of inputs straight through {compared.text(through)}: a gradient that is hidden is no protection."
    )


def remark_on_flat(form: str, flat: int, rows: int) -> str:
    """Return a remark on gradients of 0; empty where they are few.

    Args:
        form: the form that they were taken through.
        flat: number of rows with a gradient of 0.
        rows: number of rows that are right without an attack.
    """
    if flat < max(1, FLAT * rows):
        return ""
    through = "" if form == "own" else f", {form},"
    return (
        f"the gradient of the cross-entropy{through} is exactly 0 at {flat} of {rows} rows, so attacks by it cannot"
        " move them: outputs are rounded or saturated, for instance by large logits, and may withstand less than it"
        " seems."
    )


def remark_on_decisions(decided: Tensor, targets: Tensor) -> str:
    """Return a remark on a module that decides for one class at all rows; empty for any other."""
    classes, present = set(decided.tolist()), set(targets.tolist())
    if len(classes) != 1 or len(present) == 1:
        return ""
    return (
        f"each of the {len(decided)} rows gets class {classes.pop()}, where {len(present)} classes occur:"
        " what withstands an attack here tells nothing. Is the module trained?"
    )


def remark_on_bounded(bounded: bool) -> str:
    """Return a remark on outputs of which none is below 0 or above 1."""
    if not bounded:
        return ""
    return (
        "outputs lie between 0 and 1, as probabilities do, and are taken for logits, a single one for class 1 where it"
        " is above 0: attack the module without its last sigmoid or softmax, which hides gradients."
    )


def remark_on_blind(form: str) -> str:
    """Return a remark on a form through which no gradient can be taken."""
    which = "the module" if form == "own" else f'the form "{form}"'
    return f"no gradient can be taken through {which}: only attacks without it were run, which are weaker."
