"""The divisor of a mean loss over a batch, by which the losses of parts add up to the loss of the whole."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneflow.nested import leaves

CLASSES: tuple[Any, ...] = (nn.CrossEntropyLoss, nn.NLLLoss, functional.cross_entropy, functional.nll_loss)
ELEMENTS: tuple[Any, ...] = (
    *(nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.PoissonNLLLoss),
    *(nn.SoftMarginLoss, nn.HingeEmbeddingLoss, nn.KLDivLoss, functional.mse_loss, functional.l1_loss),
    *(functional.smooth_l1_loss, functional.huber_loss, functional.binary_cross_entropy, functional.kl_div),
    *(functional.binary_cross_entropy_with_logits, functional.poisson_nll_loss, functional.soft_margin_loss),
    functional.hinge_embedding_loss,
)
ROWS: tuple[Any, ...] = (
    *(nn.MultiMarginLoss, nn.MultiLabelMarginLoss, nn.MultiLabelSoftMarginLoss, functional.multi_margin_loss),
    *(functional.multilabel_margin_loss, functional.multilabel_soft_margin_loss),
)
IGNORED = -100  # torch's default for the class number of targets that do not count


def shares(loss: Any, targets: Sequence[Any]) -> list[float]:
    """Return the share of each part of a batch: the sum of share times loss over the parts is the batch's loss.

    Args:
        loss: function of (outputs, targets), or anything for which a mean over rows is taken.
        targets: of each part.

    Example:
        >>> parts = torch.tensor([0, 1, 1]), torch.tensor([1, -100])
        >>> shares(nn.CrossEntropyLoss(), parts), shares(nn.CrossEntropyLoss(reduction="sum"), parts)
        ([0.75, 0.25], [1.0, 1.0])
    """
    if reduction_of(loss) == "sum":
        return [1.0] * len(targets)
    divisors = [divisor(loss, part) for part in targets]
    return [each / (sum(divisors) or 1.0) for each in divisors]


def divisor(loss: Any, targets: Any) -> float:
    """Return what a mean `loss` divides by over these targets, up to a factor that all batches share.

    That is the number of elements, or for a loss of class numbers of those that are not ignored, or the sum of their
    class weights. A loss that is not torch's counts rows, or where it has an `ignore_index` the class numbers that are
    not ignored; whether that is right can only be seen by comparing the whole with its parts.
    """
    kind, whole = kind_of(loss), isinstance(targets, Tensor) and not targets.is_floating_point()
    if whole and (kind in CLASSES or isinstance(setting(loss, "ignore_index"), int)):
        return _counted(loss, targets, setting(loss, "weight") if kind in CLASSES else None)
    elements = kind in CLASSES or (kind in ELEMENTS and reduction_of(loss) != "batchmean")
    return float(targets.numel()) if elements and isinstance(targets, Tensor) else float(rows_of(targets))


def kind_of(loss: Any) -> Any:
    """Return torch's function or class that `loss` is, also as a partial or an instance; None for any other loss.

    An instance of a subclass counts as long as it computes what its class does.
    """
    if isinstance(loss, partial):
        return kind_of(loss.func)
    for kind in (*CLASSES, *ELEMENTS, *ROWS):
        if loss is kind or (
            isinstance(kind, type) and isinstance(loss, kind) and _computation(type(loss)) == _computation(kind)
        ):
            return kind
    return None


def reduction_of(loss: Any) -> str:
    """Return "mean", "sum" or what else a loss says about itself; "mean" where it says nothing."""
    return str(setting(loss, "reduction") or "mean")


def setting(loss: Any, name: str) -> Any:
    """Return a keyword of a partial or an attribute of a loss; None where it has none of that name."""
    if isinstance(loss, partial):
        return loss.keywords[name] if name in loss.keywords else setting(loss.func, name)
    return getattr(loss, name, None)


def rows_of(targets: Any) -> int:
    """Return the number of rows: of the first tensor, or the length of a list that holds one object per row."""
    if isinstance(targets, list) and targets and not isinstance(targets[0], Tensor):
        return len(targets)
    first = next(iter(leaves(targets)), None)
    return 1 if first is None or first.ndim == 0 else len(first)


def _computation(kind: Any) -> tuple[Any, Any]:
    return kind.forward, kind.__call__


def _counted(loss: Any, targets: Tensor, weight: Tensor | None) -> float:
    ignored = setting(loss, "ignore_index")
    counted = targets[targets != (IGNORED if ignored is None else ignored)]
    if weight is None:
        return float(counted.numel())
    with torch.no_grad():
        return float(weight[counted].sum())
