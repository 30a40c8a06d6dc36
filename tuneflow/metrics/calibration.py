"""Calibration: whether outputs that claim a probability are right that often."""

import torch
from torch import Tensor

BINS = 15


def ece(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the expected calibration error of classes, over all rows: a scalar, float64, from 0 to 1.

    The confidence of a row is the largest softmax probability, for a single output the sigmoid's of the class that it
    decides for. Rows are put into 15 bins of equal width by it; the error is the mean over rows of how far, in their
    bin, the mean confidence is from the share of right decisions. It is biased upward on few rows. It has no standard
    error in the reports of an epoch; `test` gives an interval by a bootstrap. NaN where a row's confidence is.

    Args:
        outputs: logits, shape (n, classes, ...); or, for two classes, shape (n,) or (n, 1).
        targets: as for `accuracy`; class numbers below 0 do not count.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> sure = torch.tensor([[9.0, -9.0]] * 4)
        >>> round(ece(sure, torch.tensor([0, 0, 0, 1])).item(), 4)
        0.25

    Source: Guo, Pleiss, Sun, Weinberger, ICML 2017, equation 3.
    """
    confidence, right = _decisions(outputs.detach(), targets)
    if confidence.isnan().any() or not len(confidence):
        return torch.tensor(torch.nan, dtype=torch.float64)
    number = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # bins open below, closed above
    gaps = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    return gaps.index_add_(0, number, confidence - right).abs().sum() / len(confidence)


def _decisions(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the confidence of each decision, and 1 where it is right, else 0; both float64, shape (decisions,)."""
    if outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1):
        shares = outputs.flatten().double().sigmoid()
        right = (shares > 0.5) == (targets.flatten() > 0.5)
        return torch.maximum(shares, 1 - shares), right.double()
    classes = targets.argmax(1) if targets.shape == outputs.shape and targets.is_floating_point() else targets
    if classes.shape != (*outputs.shape[:1], *outputs.shape[2:]):
        raise ValueError(f"ece: shapes {tuple(outputs.shape)} and {tuple(targets.shape)} do not fit")
    confidence, decided = outputs.double().softmax(1).max(1)
    counted = classes >= 0
    return confidence[counted], (decided == classes)[counted].double()
