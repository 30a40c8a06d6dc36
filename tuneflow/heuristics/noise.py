"""Gradient noise scale: the batch size at which a gradient is as much signal as noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuneflow.heuristics.lanczos import Closure, flat, gradient


@dataclass(frozen=True)
class Noise:
    """The result of `gradient_noise`.

    Attributes:
        scale: the simple noise scale tr(Sigma) / ``|G|^2``, in rows. Batches well below it gain nearly in proportion
            from more rows, those well above gain nearly nothing. inf where no signal stands out from the noise.
        gradient: ``|G|^2``, the squared norm of the gradient over all data; unbiased, so it may come out negative.
        variance: tr(Sigma), the summed variance of one row's gradient; unbiased.
        gradients: cost in gradients of a large batch.
        reason: the reason why `scale` is unreliable; empty where it is not.
    """

    scale: float
    gradient: float
    variance: float
    gradients: float
    reason: str = ""


def gradient_noise(
    loss_of: Closure,
    parameters: Sequence[Tensor],
    small_batches: Sequence[Any],
    large_batches: Sequence[Any],
    rows: tuple[int, int],
    seed: int = 0,
) -> Noise:
    """Estimate the simple gradient noise scale from gradients of batches of two sizes.

    The expected squared norm of a gradient over B rows is ``|G|^2`` + tr(Sigma) / B; two sizes give both unknowns, each
    unbiased. The scale is their ratio and is not: many batches make it good, and ``|G|^2`` is the harder of the two.
    Small batches may be parts of the large ones.

    Args:
        loss_of: maps a batch to its mean loss. Dropout counts as noise where the module trains with it. BatchNorm in
            training mode makes rows depend on each other, which the formula does not account for.
        parameters: leaves that require gradients. Not modified, nor is `.grad`.
        small_batches: drawn independently of the parameters, each of `rows[0]` rows.
        large_batches: the same, each of `rows[1]` rows.
        rows: of a small and of a large batch, small < large.
        seed: of the global generators, that is, of dropout.

    Raises:
        ValueError: there are no batches, the rows are not ascending, or the loss is not a scalar with a graph.

    Example:
        >>> import torch
        >>> w = torch.zeros(1, requires_grad=True)
        >>> loss = lambda rows: (rows * w).mean()  # a row's gradient is the row itself: mean 3, variance 1
        >>> small, large = [torch.tensor([2.0]), torch.tensor([4.0])], [torch.tensor([2.0, 4.0])]
        >>> gradient_noise(loss, [w], small, large, rows=(1, 2))
        Noise(scale=0.25, gradient=8.0, variance=2.0, gradients=2.0, reason='')

    Source: McCandlish, Kaplan, Amodei, An Empirical Model of Large-Batch Training, 2018, appendix A.1.
    """
    small, large = rows
    if not 0 < small < large:
        raise ValueError(f"gradient_noise: rows needs 0 < small < large, got {rows}.")
    if not small_batches or not large_batches or not parameters:
        raise ValueError(
            "gradient_noise needs parameters and batches of both sizes, got"
            f" {len(parameters)}, {len(small_batches)} and {len(large_batches)}."
        )
    short = _mean_square(loss_of, parameters, small_batches, seed, "small")
    long = _mean_square(loss_of, parameters, large_batches, seed, "large")
    signal = (large * long - small * short) / (large - small)
    variance = (short - long) / (1 / small - 1 / large)
    scale, reason = _ratio(variance, signal)
    return Noise(scale, signal, variance, len(large_batches) + len(small_batches) * small / large, reason)


def _mean_square(loss_of: Closure, parameters: Sequence[Tensor], batches: Sequence[Any], seed: int, size: str) -> float:
    """Return the mean squared norm of the batches' gradients."""
    total = 0.0
    for number, batch in enumerate(batches):
        slope = flat(gradient(loss_of, parameters, batch, seed, "noise", size, number))
        total += float(slope.square().sum())
    return total / len(batches)


def _ratio(variance: float, signal: float) -> tuple[float, str]:
    if not math.isfinite(variance) or not math.isfinite(signal):
        return math.nan, "a gradient is not finite"
    if signal <= 0:
        return math.inf, "the gradient is lost in its noise; take more or larger batches"
    if variance < 0:
        return 0.0, "the batches differ less than chance allows; take more of them"
    return variance / signal, ""
