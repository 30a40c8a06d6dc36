"""Metrics of the order that outputs put the rows in: the area under the ROC curve, and average precision."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def auc(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the area under the ROC curve: the share of pairs in which the positive row has the larger output.

    Equal outputs count as half a pair. For several classes it is the mean over classes, each against the rest by its
    softmax probability; for several labels, the mean over labels. A class that no row or every row has is left out,
    and NaN is returned where no other is left, or where an output is NaN.

    Args:
        outputs: logits or scores: (n,) or (n, 1) for two classes, (n, classes), or (n, labels).
        targets: class numbers, (n,) or (n, 1), for two classes in {0, 1}; for several labels (n, labels) in {0, 1}.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
        0.75

    Source: Hanley and McNeil, Radiology 143, 1982.
    """
    return _mean_over_columns(_share_of_pairs, outputs, targets, "auc")


def average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the precision averaged over the positive rows, each taken where its output is the threshold.

    Rows of equal outputs pass the threshold together. Several classes or labels are averaged as for `auc`; a class that
    no row has is left out.

    Args:
        outputs: as for `auc`.
        targets: as for `auc`.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> round(average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item(), 4)
        0.8333
    """
    return _mean_over_columns(_mean_precision, outputs, targets, "average_precision")


def _mean_over_columns(
    metric: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor, name: str
) -> Tensor:
    """Return the mean of `metric` over the columns in which it is defined; NaN where it is in none."""
    scores, positive = _columns(outputs.detach(), targets, name)
    if scores.isnan().any():
        return torch.tensor(math.nan, dtype=torch.float64)
    values = torch.stack([metric(*column) for column in zip(scores.T, positive.T, strict=True)])
    defined = values[~values.isnan()]
    return defined.mean()


def _columns(outputs: Tensor, targets: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return scores, float64, and positives, bool, both (n, columns): one column for two classes."""
    rows = len(outputs)
    if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.numel() == rows:
        shares, classes = outputs.double().softmax(1), targets.reshape(rows).long()
        if outputs.shape[1] == 2:
            return shares[:, 1:], (classes == 1)[:, None]
        return shares, classes[:, None] == torch.arange(outputs.shape[1], device=classes.device)
    if outputs.numel() == targets.numel() and outputs.ndim <= 2:
        scores = outputs.reshape(rows, -1).double()
        return scores, targets.reshape(scores.shape) > 0.5
    raise ValueError(
        f"{name}: needs outputs of shape (n,), (n, classes) or (n, labels) and targets of shape (n,) or (n, labels),"
        f" got {tuple(outputs.shape)} and {tuple(targets.shape)}."
    )


def _share_of_pairs(scores: Tensor, positive: Tensor) -> Tensor:
    mine, others = scores[positive], scores[~positive].sort().values
    below = torch.searchsorted(others, mine) + torch.searchsorted(others, mine, right=True)
    return below.double().sum() / (2 * len(mine) * len(others))


def _mean_precision(scores: Tensor, positive: Tensor) -> Tensor:
    order = scores.argsort(descending=True)
    hits = positive[order].double().cumsum(0)
    ends = torch.cat([scores[order].diff() != 0, torch.ones(1, dtype=torch.bool, device=scores.device)])
    hits, passed = hits[ends], ends.nonzero().flatten() + 1.0
    return (hits.diff(prepend=hits.new_zeros(1)) * hits / passed).sum() / hits[-1]
