"""Curvature: the largest positive eigenvalue of the loss's Hessian, and the learning rates that follow from it."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tuneflow.heuristics.lanczos import Closure, Hessian, Product, flat, gradient, lanczos, unfused
from tuneflow.seeds import torch_stream

ResultT = TypeVar("ResultT")

TILT = 0.3  # of a random direction, in the first vector of Lanczos


@dataclass(frozen=True)
class Curvature:
    """The result of `curvature`.

    Attributes:
        value: the largest eigenvalue, averaged over the mini-batches; in units of loss per parameter squared.
        per_batch: the largest eigenvalue for each mini-batch.
        exact: True for products by double backward, False for finite differences of gradients.
        gradients: cost in gradients of a mini-batch; a product by double backward counts 2.
        reason: the reason why `value` gives no learning rate; empty where it does.
    """

    value: float
    per_batch: tuple[float, ...]
    exact: bool
    gradients: float
    reason: str = ""


def curvature(
    loss_of: Closure,
    parameters: Sequence[Tensor],
    batches: Sequence[Any],
    scale: Sequence[Tensor] | None = None,
    rounds: int = 8,
    seed: int = 0,
) -> Curvature:
    """Return the largest positive eigenvalue of the Hessian H of the loss on a mini-batch, averaged over mini-batches.

    Plain gradient descent on a quadratic diverges above 2 / value and is fastest along the steepest direction at 1 /
    value. With `scale` D it is the eigenvalue of D^-1/2 H D^-1/2, with the same meaning for descent that divides the
    gradient by D, as Adam does. Found by Lanczos, so the most negative eigenvalue does not disturb it; the Hessian is
    never formed.

    Products with H come from double backward; where that raises, once more without fused attention and cuDNN; where it
    still raises, from central differences of gradients (`exact` is False), which at kinks such as ReLU's see a
    curvature that double backward does not: up to 4 times the value, measured. Under custom autograd functions, which
    may hide that they have no double backward, a product is checked against its difference.

    Each mini-batch is evaluated under one fixed state of the global generators, so dropout draws the same mask every
    time. Set the module to training or evaluation mode yourself; in training mode BatchNorm's running averages change
    here too, and are not restored.

    Args:
        loss_of: maps a batch to its scalar loss.
        parameters: leaves that require gradients, of any devices and float dtypes. Those that the loss does not use
            count as flat. Finite differences move them and put them back bit for bit; `.grad` does not change.
        batches: mini-batches, as `loss_of` takes them.
        scale: D, positive tensors shaped like the parameters, such as `adam_scale` returns; None for ones.
        rounds: Hessian-vector products for each mini-batch.
        seed: of the first direction and of the global generators.

    Raises:
        ValueError: there are no parameters, batches or rounds, a parameter does not require a gradient, the scale
            does not fit, or the loss is not a scalar with a graph.

    Example:
        >>> w = torch.zeros(3, requires_grad=True)
        >>> bent = curvature(lambda bend: 0.5 * (bend * w * w).sum(), [w], [torch.tensor([-5.0, 1.0, 3.0])])
        >>> round(bent.value, 4), bent.exact
        (3.0, True)

    Source: LeCun, Simard, Pearlmutter, NIPS 5, 1993; products: Pearlmutter, Neural Computation 6, 1994.
    """
    check_parts(parameters, batches, "curvature")
    if rounds < 1:
        raise ValueError(f"curvature: rounds needs to be at least 1, got {rounds}.")
    shrink = torch.ones(()) if scale is None else _inverse_root(scale, parameters)
    aside = torch.randn(sum(p.numel() for p in parameters), generator=torch_stream(seed, "curvature"))
    values: list[float] = []
    way, cost = 0, 0.0
    for number, batch in enumerate(batches):
        hessian = Hessian(loss_of, parameters, batch, seed, "curvature", number)
        way, value = by_first_way(hessian, way, partial(_eigenvalue, shrink, aside, rounds))
        values.append(value)
        cost += hessian.gradients
    value = sum(values) / len(values)
    return Curvature(value, tuple(values), way != DIFFERENCES, cost, _reason(value, values))


def adam_scale(loss_of: Closure, parameters: Sequence[Tensor], batches: Sequence[Any], seed: int = 0) -> list[Tensor]:
    """Return Adam's divisor of the gradient: D = sqrt(v + mean of v over the tensor) + 1e-8.

    v is the mean of squared mini-batch gradients. The mean over the tensor keeps elements whose few gradients happened
    to be small from passing for very steep ones. Costs one gradient for each batch.

    Args:
        loss_of: maps a batch to its scalar loss.
        parameters: leaves that require gradients.
        batches: about 8 mini-batches.
        seed: of the global generators.

    Returns:
        Positive tensors, shaped like the parameters, of at least float32.

    Raises:
        ValueError: as `curvature`.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> adam_scale(lambda slope: (slope * w).sum(), [w], [torch.tensor([1.0, 1.0])])
        [tensor([1.4142, 1.4142])]

    Source: v as in Kingma, Ba, ICLR 2015, without its decay; the mean over the tensor is ours.
    """
    check_parts(parameters, batches, "adam_scale")
    squares = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
    for number, batch in enumerate(batches):
        for square, slope in zip(squares, gradient(loss_of, parameters, batch, seed, "adam_scale", number)):
            square.add_(slope.to(square).square(), alpha=1 / len(batches))
    return [(v + v.mean()).sqrt() + 1e-8 for v in squares]


def sgd_rate(value: float, momentum: float = 0.0) -> float:
    """Return the learning rate (1 - momentum) / value for SGD: half of where plain gradient descent diverges.

    Heavy ball stays stable up to 2 (1 + momentum) / value; but a step is repeated 1 / (1 - momentum) times over, so the
    rate is lowered to keep the effective one.

    Args:
        value: the largest eigenvalue of the Hessian, from `curvature`.
        momentum: SGD's, within [0, 1).

    Raises:
        ValueError: value is not positive and finite, or momentum not within [0, 1).

    Example:
        >>> sgd_rate(4.0), round(sgd_rate(4.0, momentum=0.9), 3)
        (0.25, 0.025)

    Source: LeCun, Simard, Pearlmutter, NIPS 5, 1993.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"sgd_rate: momentum needs to be within [0, 1), got {momentum}.")
    return (1 - momentum) * adam_rate(value)


def adam_rate(value: float) -> float:
    """Return the learning rate 1 / value for Adam and its kin.

    Args:
        value: the largest eigenvalue of the Hessian, from `curvature` under `adam_scale`.

    Raises:
        ValueError: value is not positive and finite.

    Example:
        >>> adam_rate(50.0)
        0.02

    Source: the rate at which descent is fastest along the steepest direction, as for `sgd_rate`; under Adam's scale,
    ours.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"a rate needs a curvature above 0 and finite, got {value}; take a range test instead.")
    return 1 / value


# Ways to a product, by preference: double backward, double backward on plain kernels, differences of gradients.
DIFFERENCES = 2


def by_first_way(hessian: Hessian, way: int, measure: Callable[[Tensor, Product], ResultT]) -> tuple[int, ResultT]:
    """Return the first way from `way` on that does not raise, and what `measure` gives of gradient and product."""
    while way < DIFFERENCES:
        try:
            with unfused() if way else nullcontext():
                return way, measure(*hessian.double_backward())
        except RuntimeError:
            way += 1
    return way, measure(*hessian.differences())


def _eigenvalue(shrink: Tensor, aside: Tensor, rounds: int, slope: Tensor, product: Product) -> float:
    """Run Lanczos from the tilted gradient: measured, that halves the error of a random start at the same rounds."""
    start = _tilted(slope * shrink, aside.to(slope))
    return lanczos(lambda vector: product(vector * shrink).mul(shrink), start, rounds)[0]


def _tilted(slope: Tensor, aside: Tensor) -> Tensor:
    """Return the direction of the gradient, with a share in every other direction."""
    return nn.functional.normalize(slope, dim=0, eps=1e-30) + nn.functional.normalize(aside, dim=0).mul(TILT)


def _inverse_root(scale: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    shapes, wanted = [tuple(d.shape) for d in scale], [tuple(p.shape) for p in parameters]
    if shapes != wanted:
        raise ValueError(f"curvature: scale needs the shapes of the parameters, {wanted}, got {shapes}.")
    root = flat(scale).rsqrt()
    if not bool((root.isfinite() & (root > 0)).all()):
        raise ValueError("curvature: scale needs to be above 0 and finite everywhere; adam_scale gives such a one.")
    return root


def _reason(value: float, values: list[float]) -> str:
    for number, here in enumerate(values):
        if not math.isfinite(here):
            return f"the loss on mini-batch {number + 1} has no finite gradient or curvature"
    return "" if value > 0 else f"the loss bends nowhere upwards: its largest eigenvalue is {value:.3g}"


def check_parts(parameters: Sequence[Tensor], batches: Sequence[Any], who: str) -> None:
    """Raise ValueError unless there are parameters, leaves that require gradients, and batches."""
    if not parameters or not batches:
        raise ValueError(f"{who} needs parameters and batches, got {len(parameters)} and {len(batches)}.")
    for number, parameter in enumerate(parameters):
        if not parameter.requires_grad or not parameter.is_leaf:
            raise ValueError(f"{who}: parameter {number} needs to be a leaf that requires a gradient; leave it out.")
