"""Metrics, and their uncertainty.

A metric is any callable `(outputs, targets) -> number`, or `-> one number per example`, shape (n,): then the mean is
reported together with its standard error. An object with `update`, `compute` and `reset`, as torchmetrics has them, is
a metric too.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tuneflow.validate import check_whole

__all__ = ["Estimate", "accuracy", "mae", "r2", "rmse", "top_k"]

Metric = Callable[[Any, Any], Any]


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where the largest output is at the target class, else 0: shape (n,) float.

    Outputs that are not finite count as wrong; extra dimensions are averaged within an example.

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
        right = ((outputs.flatten() > 0) == (targets.flatten() > 0.5)) & finite.flatten()
    else:
        classes = targets.argmax(1) if targets.shape == outputs.shape and targets.is_floating_point() else targets
        if classes.shape != (*outputs.shape[:1], *outputs.shape[2:]):
            raise ValueError(f"accuracy: shapes {tuple(outputs.shape)} and {tuple(targets.shape)} do not fit")
        right = (outputs.argmax(1) == classes) & finite.all(1)
    return right.float().flatten(1).mean(1) if right.ndim > 1 else right.float()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of each example: shape (n,).

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0]))
        tensor([0.5000, 0.0000])
    """
    return (outputs.reshape(targets.shape) - targets).abs().reshape(len(targets), -1).mean(1)


def top_k(k: int) -> Metric:
    """Return a metric: 1 where the target class is among the `k` largest outputs, else 0, shape (n,) float.

    Outputs and targets are as for `accuracy`, targets as class numbers; `top_k(1)` is `accuracy`. Among equal outputs
    the earlier class comes first. Outputs that are not finite count as wrong.

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
    wanted = targets.long().unsqueeze(1)
    own = outputs.gather(1, wanted)
    numbers = torch.arange(outputs.shape[1], device=outputs.device).reshape(-1, *[1] * (outputs.ndim - 2))
    before = (outputs > own) | ((outputs == own) & (numbers < wanted))
    right = (before.sum(1) < k) & torch.isfinite(outputs).all(1)
    return right.float().flatten(1).mean(1) if right.ndim > 1 else right.float()


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root of the mean squared error over all numbers: a scalar, float64.

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0])).item()
        3.5355339059327378
    """
    return (outputs.reshape(targets.shape).double() - targets).square().mean().sqrt()


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of the targets' variance that the outputs explain, over all rows: a scalar, at best 1.

    1 minus the squared errors over the squared distances from the targets' mean; for targets of several numbers the
    mean over these. Where a target is constant, 1 if it is met exactly, else 0.

    Args:
        outputs: shape (n, ...); (n, 1) counts as (n,).
        targets: shape (n, ...).

    Example:
        >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).item()
        1.0
    """
    wanted = targets.reshape(len(targets), -1).double()
    missed = (outputs.reshape(wanted.shape).double() - wanted).square().sum(0)
    spread = (wanted - wanted.mean(0)).square().sum(0)
    constant = (wanted == wanted[:1]).all(0)
    share = 1 - missed / torch.where(constant, 1.0, spread)
    return torch.where(constant, (missed == 0).to(share.dtype), share).mean()


def as_metric(metric: Any) -> Metric:
    """Return `metric` as a callable `(outputs, targets)`; see `Accumulated` for objects that are updated.

    Raises:
        TypeError: it is neither, or a class where an instance is needed.
    """
    if all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset")):
        if isinstance(metric, type):
            raise TypeError(f"needs an instance, got the class {metric.__name__}; add parentheses.")
        return metric if isinstance(metric, Accumulated) else Accumulated(metric)
    if not callable(metric):
        raise TypeError(f"needs to be callable, or to have update, compute and reset, got {metric!r}.")
    return metric  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Accumulated:
    """A metric from an object with `update(outputs, targets)`, `compute()` and `reset()`.

    Each call works on a fresh copy, on the outputs' device; the object itself never changes.
    """

    metric: Any

    def __call__(self, outputs: Any, targets: Any) -> Any:
        fresh = copy.deepcopy(self.metric)
        fresh.reset()
        if hasattr(fresh, "to") and isinstance(outputs, Tensor):
            fresh = fresh.to(outputs.device)
        fresh.update(outputs, targets)
        result = fresh.compute()
        if isinstance(result, Tensor) and result.numel() != 1:
            raise TypeError(f"compute() needs to return one number, got shape {tuple(result.shape)}")
        return result


class Measured(NamedTuple):
    """A value over some examples, with its uncertainty.

    Attributes:
        value: the mean over examples, or the metric's single number.
        error: its standard error over examples; NaN where it is not known.
        examples: number of examples in the mean; 0 where the metric returned one number.
        binary: every example counted 0 or 1.
    """

    value: float
    error: float = math.nan
    examples: int = 0
    binary: bool = False


def measure(result: Any) -> Measured:
    """Return a metric's result as a value with its error.

    Raises:
        TypeError: the metric returned something that is not a number or a vector of them.
    """
    if isinstance(result, Tensor) and result.ndim == 1 and result.numel() > 1:
        return _rows(result.detach()[None])[0]
    try:
        return Measured(float(result))
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(result.shape) if isinstance(result, Tensor) else ""
        kind = type(result).__name__
        raise TypeError(f"needs to return a number or one number per example, got {kind}{shape}") from None


def measure_loss(loss: Callable[..., Tensor], outputs: Any, targets: Any) -> Measured:
    """Return the loss over all examples at once, exactly as `loss` defines it, with its standard error.

    The error comes from the same loss per example (`reduction="none"`), and is NaN where the loss has no such form or
    where its mean is not the mean over examples, as under class weights.
    """
    value = float(loss(outputs, targets))
    if getattr(loss, "reduction", None) != "mean":
        return Measured(value)
    single = copy.copy(loss)
    single.reduction = "none"  # type: ignore[attr-defined]
    each = single(outputs, targets)
    if each.ndim == 0 or len(each) < 2:
        return Measured(value)
    measured = measure(each.reshape(len(each), -1).mean(1))
    same = math.isclose(measured.value, value, rel_tol=1e-4, abs_tol=1e-7)
    return measured._replace(value=value) if same else Measured(value)


def measure_losses(loss: Callable[..., Tensor], outputs: Any, targets: Any) -> list[Measured]:
    """Return `measure_loss` of each of K outputs, stacked in front: (K, n, ...); batched where that is equal."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return [measure_loss(loss, part, targets) for part in _unstacked(outputs)]
    first = measure_loss(loss, outputs[0], targets)
    if math.isnan(first.error):  # a loss that is no mean over examples
        return [first, *(measure_loss(loss, part, targets) for part in outputs[1:])]
    single = copy.copy(loss)
    single.reduction = "none"  # type: ignore[attr-defined]
    repeated = targets.repeat(len(outputs), *[1] * (targets.ndim - 1))
    return _rows(single(outputs.flatten(0, 1), repeated).view(len(outputs), first.examples, -1).mean(2))


def measure_accuracies(outputs: Any, targets: Tensor) -> list[Measured]:
    """Return `measure(accuracy(...))` of each of K outputs, stacked in front: (K, n, ...)."""
    repeated = targets.repeat(len(outputs), *[1] * (targets.ndim - 1))
    return _rows(accuracy(outputs.flatten(0, 1), repeated).view(len(outputs), -1))


def _rows(each: Tensor) -> list[Measured]:
    """Return `measure` of each row: (K, n)."""
    count = each.shape[1]
    if count < 2:
        return [measure(row) for row in each]
    each = each.double()
    errors = (each.var(1, correction=1) / count).sqrt()
    binary = ((each == 0) | (each == 1)).all(1)
    columns = zip(each.mean(1).tolist(), errors.tolist(), binary.tolist(), strict=True)
    return [Measured(value, error, count, ones) for value, error, ones in columns]


def _unstacked(outputs: Any) -> list[Any]:
    count = len(pytree.tree_leaves(outputs)[0])
    return [pytree.tree_map(lambda leaf, place=place: leaf[place], outputs) for place in range(count)]


@dataclass(frozen=True)
class Estimate:
    """A number measured on n examples, with its 95 % confidence interval.

    The interval is about the choice of examples only; it does not account for how the model was chosen.

    Attributes:
        value: the measured number.
        low: lower end of the interval; NaN where it is not known.
        high: upper end of the interval; NaN where it is not known.
        examples: n; 0 where it is not known.
    """

    value: float
    low: float
    high: float
    examples: int

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.value:.4f}{interval}"


Z = 1.959964  # the standard normal's 97.5 % quantile


def estimate(measured: Measured) -> Estimate:
    """Return a measured value with its 95 % interval.

    Wilson's interval where every example counts 0 or 1; the normal one from the standard error otherwise.

    Example:
        >>> print(estimate(measure(torch.tensor([1.0] * 9 + [0.0]))))
        0.9000 [0.5958, 0.9821]

    Source: Wilson, JASA 22, 1927.
    """
    p, error, n, binary = measured
    if not binary:
        return Estimate(p, p - Z * error, p + Z * error, n)
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Estimate(p, max(0.0, center - half), min(1.0, center + half), n)
