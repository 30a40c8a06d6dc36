"""Metrics of class numbers: accuracy, the k largest outputs, F1."""

from functools import partial

import torch
from torch import Tensor

from tuneflow.metrics.adapters import Metric
from tuneflow.validate import check_whole


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where the largest output is at the target class, else 0: shape (n,) float.

    Outputs that are not finite count as wrong; extra dimensions are averaged within an example. Class numbers below 0,
    as the -100 of padded positions, do not count; an example in which none counts is NaN.

    Args:
        outputs: logits, shape (n, classes, ...); or, for two classes, shape (n,) or (n, 1).
        targets: class numbers, shape (n, ...), or probabilities, (n, classes, ...); for two classes as many elements as
            outputs, in {0, 1}.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor([1., 0.])
    """
    finite = torch.isfinite(outputs)
    if outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1):
        return (((outputs.flatten() > 0) == (targets.flatten() > 0.5)) & finite.flatten()).float()
    classes = targets.argmax(1) if targets.shape == outputs.shape and targets.is_floating_point() else targets
    if classes.shape != (*outputs.shape[:1], *outputs.shape[2:]):
        raise ValueError(f"accuracy: shapes {tuple(outputs.shape)} and {tuple(targets.shape)} do not fit")
    return _averaged((outputs.argmax(1) == classes) & finite.all(1), classes)


def top_k(k: int) -> Metric:
    """Return a metric: 1 where the target class is among the `k` largest outputs, else 0, shape (n,) float.

    Outputs and targets are as for `accuracy`, targets as class numbers; `top_k(1)` is `accuracy`. Among equal outputs
    the earlier class comes first. Outputs that are not finite count as wrong, class numbers below 0 do not count.

    Args:
        k: at least 1, below the number of outputs.

    Raises:
        ValueError: k < 1; when the metric is used: k is not below the number of outputs, or the shapes do not fit.

    Example:
        >>> top_k(2)(torch.tensor([[0.1, 0.7, 0.2]] * 3), torch.tensor([0, 1, 2]))
        tensor([0., 1., 1.])
    """
    return partial(_among_largest, check_whole("top_k: k", k))


def _among_largest(k: int, outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.ndim < 2 or outputs.shape[1] <= k or targets.shape != (*outputs.shape[:1], *outputs.shape[2:]):
        raise ValueError(
            f"top_k: k={k} needs outputs of shape (n, more than {k}, ...) and class numbers of shape (n, ...), got"
            f" {tuple(outputs.shape)} and {tuple(targets.shape)}."
        )
    wanted = targets.long().clamp(min=0).unsqueeze(1)
    own = outputs.gather(1, wanted)
    numbers = torch.arange(outputs.shape[1], device=outputs.device).reshape(-1, *[1] * (outputs.ndim - 2))
    before = (outputs > own) | ((outputs == own) & (numbers < wanted))
    return _averaged((before.sum(1) < k) & torch.isfinite(outputs).all(1), targets)


def _averaged(right: Tensor, classes: Tensor) -> Tensor:
    """Return the share of right positions of each example, shape (n,), among those whose class is not below 0."""
    if right.ndim == 1 and not (classes < 0).any():
        return right.float()
    counts = (classes >= 0).float().flatten(1) if right.ndim > 1 else (classes >= 0).float()[:, None]
    return (right.float().reshape(counts.shape) * counts).sum(1) / counts.sum(1)


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the harmonic mean of precision and recall, over all rows: a scalar, float64.

    For two classes it is that of class 1; for more, the mean over the classes that are in the targets or the decisions;
    for several labels, the mean over labels. Class numbers below 0 do not count. Without any true positive it is 0.

    Args:
        outputs: logits, shape (n, classes, ...); or (n,) or (n, 1) for two classes, of which 1 is where the logit is
            above 0; or (n, labels).
        targets: class numbers, shape (n, ...); for several labels (n, labels) in {0, 1}.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> f1(torch.tensor([2.0, 1.0, -1.0, 3.0]), torch.tensor([1, 0, 1, 1])).item()
        0.6666666666666666
    """
    decided, wanted = _decisions(outputs.detach(), targets)
    hits, chosen, there = ((part).double().sum(0) for part in (decided & wanted, decided, wanted))
    counts = chosen + there
    values = 2 * hits / counts.clamp(min=1)
    return values[counts > 0].mean() if (counts > 0).any() and len(counts) > 1 else values.mean()


def _decisions(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return decisions and targets as booleans, (positions, columns): one column for two classes."""
    classes = outputs.shape[1] if outputs.ndim > 1 else 1
    if classes > 1 and targets.shape == (*outputs.shape[:1], *outputs.shape[2:]):
        wanted = targets.reshape(-1).long()
        counted = wanted >= 0
        both = torch.stack([outputs.argmax(1).reshape(-1), wanted])[:, counted, None]
        numbers = torch.arange(1, 2) if classes == 2 else torch.arange(classes)
        decided, there = both == numbers.to(both.device)
        return decided, there
    if outputs.numel() == targets.numel():
        return outputs.reshape(len(outputs), -1) > 0, targets.reshape(len(outputs), -1) > 0.5
    raise ValueError(f"f1: shapes {tuple(outputs.shape)} and {tuple(targets.shape)} do not fit")
