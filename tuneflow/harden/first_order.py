"""First-order margins: the change of a row that would turn its class if logits were linear around it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.threat import row_norms


def first_order_margins(
    attacked: AttackedModule, forms: Sequence[str], inputs: Tensor, classes: Tensor, norm: str
) -> Tensor:
    """Return each row's logit margin over the dual norm of its gradient, in raw units, shape (rows,).

    Of several forms the one that needs the smallest change counts, row by row. It is negative for a row that is wrong:
    the change that would put it right. Where the gradient is 0 it is infinite, as no small change turns such a row, and
    0 where the margin is 0 too; -inf where logits are not finite, and NaN where the gradient is not. It costs a forward
    and a backward pass for each form.

    Args:
        attacked: the module, in evaluation mode.
        forms: names of the forms to take gradients through, at least one.
        inputs: floating-point rows.
        classes: of the rows, shape (rows,).
        norm: "linf", whose dual norm is the sum of absolute values, or "l2".

    Source: Moosavi-Dezfooli, Fawzi, Frossard, DeepFool: a simple and accurate method to fool deep neural networks,
    2016.
    """
    each = torch.stack([_margins(attacked, form, inputs, classes, norm) for form in forms])
    sizes = torch.where(each.isnan(), torch.inf, each.abs())
    return each.gather(0, sizes.argmin(0, keepdim=True)).squeeze(0)


def _margins(attacked: AttackedModule, form: str, inputs: Tensor, classes: Tensor, norm: str) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_()
        leads = logit_margin(attacked.logits_of(attacked.forms[form], leaf), classes)
        gradient = torch.autograd.grad(leads.sum(), leaf, allow_unused=True)[0] if leads.requires_grad else None
        if gradient is None:
            raise ValueError(
                "margins: no gradient can be taken through the module, so it has no first-order margins; use"
                " tn.harden.attack, which attacks it by its logits."
            )
    leads, steepness = leads.detach(), dual_norms(gradient, norm).to(leads.dtype)
    margins = torch.where(steepness == 0, leads.sign() * torch.inf, leads / steepness)
    margins = torch.where(steepness.isfinite(), margins, torch.nan)
    return torch.where(leads == -torch.inf, leads, torch.where(leads == 0, 0.0, margins))


def dual_norms(gradient: Tensor, norm: str) -> Tensor:
    """Return the largest rise of each row's value by a change of norm 1, shape (rows,)."""
    return gradient.flatten(1).abs().sum(1) if norm == "linf" else row_norms(gradient).flatten()
