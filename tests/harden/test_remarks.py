"""Remarks on attacks: raised by differences beyond chance between attacks on the same rows, and not by others."""

import pytest
import torch

from tuneflow.harden.attack_table import AttackScore
from tuneflow.harden.remarks import remark_on_flat, remarks_on

FORMS = {"Square": ""}


def left(share, rows=200, first=0):
    """True for a share of the rows, the first of them, or those from `first` on."""
    numbers = (torch.arange(rows) - first) % rows
    return numbers < round(share * rows)


def remarks(rows=200, forms=("own",), **shares):
    """The remarks where attacks leave these shares of rows, or these rows."""
    attacks = []
    for key, share in shares.items():
        name, _, form = key.replace("_CE", "-CE").replace("_DLR", "-DLR").partition("__")
        form = form.replace("_", "-") or FORMS.get(name, forms[0])
        attacks.append(AttackScore(name, form, left(share, rows) if isinstance(share, float) else share, 0.1))
    return remarks_on(torch.ones(rows, dtype=torch.bool), attacks)


NAMED = {
    "masked": (
        {"PGD": 0.97, "APGD_CE": 0.97, "APGD_DLR": 0.42},
        "is masked, for instance by large logits",
    ),
    "single step": ({"FGSM": 0.4, "PGD": 0.6}, "FGSM leaves 40.0 % right, and PGD with its many steps 60.0 %"),
    "black box": ({"PGD": 0.9, "APGD_DLR": 0.9, "Square": 0.6}, "Square, which sees logits alone, leaves 60.0 % right"),
    "straight": (
        {"PGD": 0.97, "PGD__straight_through": 0.68},
        "own gradient leave 97.0 % right, and those that pass the cleaning of inputs straight through 68.0 %",
    ),
}


@pytest.mark.parametrize("case", NAMED.values(), ids=list(NAMED))
def test_difference_beyond_chance_is_named(case):
    shares, text = case
    assert [text in remark for remark in remarks(**shares)] == [True]


SILENT = {
    "equal": {"FGSM": 0.5, "PGD": 0.5, "APGD_CE": 0.5, "APGD_DLR": 0.5, "Square": 0.5},
    "as expected": {"FGSM": 0.6, "PGD": 0.5, "APGD_CE": 0.48, "APGD_DLR": 0.47, "Square": 0.6},
    "margin a little stronger": {"APGD_CE": 0.6, "APGD_DLR": 0.56},
    "few rows": {"rows": 9, "FGSM": 0.1, "PGD": 1.0, "APGD_CE": 1.0, "APGD_DLR": 0.1, "Square": 0.1},
    "other rows": {"PGD": left(0.6), "Square": left(0.55, first=100)},
    "no attacks": {},
}


@pytest.mark.parametrize("name", SILENT)
def test_difference_within_chance_is_not_named(name):
    assert remarks(**SILENT[name]) == []


def test_black_box_is_compared_with_all_forms_of_gradients():
    texts = remarks(PGD=0.97, PGD__straight_through=0.6, Square=0.65)
    assert [text for text in texts if "Square" in text] == []


@pytest.mark.parametrize(("flat", "rows", "named"), [(0, 0, False), (0, 50, False), (4, 50, False), (5, 50, True)])
def test_gradients_of_zero_are_named_where_they_are_many(flat, rows, named):
    assert bool(remark_on_flat("own", flat, rows)) == named
