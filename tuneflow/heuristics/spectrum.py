"""Spectrum: the density of the eigenvalues of a loss's Hessian, from Hessian-vector products."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuneflow.heuristics.curvature import DIFFERENCES, by_first_way, check_parts
from tuneflow.heuristics.lanczos import Closure, Hessian, Product, ritz
from tuneflow.seeds import torch_stream


@dataclass(frozen=True)
class HessianSpectrum:
    """The result of `spectrum`.

    Attributes:
        values: eigenvalues, ascending, in units of loss per parameter squared. Those at the ends are eigenvalues of
            the Hessian, those between stand for all around them.
        weights: the share of all eigenvalues that each stands for, as an estimate; they sum to 1.
        parameters: the number of parameters, which is that of eigenvalues.
        exact: True for products by double backward, False for finite differences of gradients.
        gradients: cost in gradients of a mini-batch.
    """

    values: tuple[float, ...]
    weights: tuple[float, ...]
    parameters: int
    exact: bool
    gradients: float


def spectrum(
    loss_of: Closure,
    parameters: Sequence[Tensor],
    batches: Sequence[Any],
    rounds: int = 30,
    starts: int = 1,
    seed: int = 0,
) -> HessianSpectrum:
    """Return the eigenvalues of the Hessian of the loss on a mini-batch, and how many lie about where.

    A network has many eigenvalues near 0 and a few large ones, which limit the learning rate: plain gradient descent
    diverges above 2 / the largest. Each start is a random direction, from which Lanczos takes its rounds; by their
    squared components along it the eigenvalues found are weighted, which is a Gauss quadrature of the density. A share
    of 1 / n needs about n starts or parameters to be seen at all. Mini-batches count alike: it is the mean of their
    densities, not the density of their mean. Products are those of `curvature`, and take the same ways.

    Args:
        loss_of: maps a batch to its scalar loss.
        parameters: leaves that require gradients, of any devices and float dtypes.
        batches: mini-batches, as `loss_of` takes them.
        rounds: Hessian-vector products for each start; as many vectors as long as all parameters are held in memory.
        starts: random directions for each mini-batch.
        seed: of the directions and of the global generators.

    Raises:
        ValueError: as `curvature`; or the loss has no finite gradient or curvature.

    Example:
        >>> w = torch.zeros(3, requires_grad=True)
        >>> bent = spectrum(lambda bend: 0.5 * (bend * w * w).sum(), [w], [torch.tensor([-5.0, 1.0, 3.0])])
        >>> [round(value, 3) for value in bent.values], [round(weight, 3) for weight in bent.weights]
        ([-5.0, 1.0, 3.0], [0.333, 0.333, 0.333])

    Source: Golub, Meurant, Matrices, Moments and Quadrature, 1994; for networks: Ghorbani, Krishnan, Xiao, An
    Investigation into Neural Net Optimization via Hessian Eigenvalue Density, ICML 2019.
    """
    check_parts(parameters, batches, "spectrum")
    if rounds < 1 or starts < 1:
        raise ValueError(f"spectrum: rounds and starts need to be at least 1, got {rounds} and {starts}.")
    count = sum(p.numel() for p in parameters)
    pairs: list[tuple[float, float]] = []
    way, cost = 0, 0.0
    for number, batch in enumerate(batches):
        hessian = Hessian(loss_of, parameters, batch, seed, "spectrum", number)
        signs = [_signs(count, seed, number, start) for start in range(starts)]
        way, nodes = by_first_way(hessian, way, partial(_quadrature, signs, rounds))
        if nodes is None:
            raise ValueError(f"spectrum: the loss on mini-batch {number + 1} has no finite gradient or curvature.")
        pairs += nodes
        cost += hessian.gradients
    pairs.sort()
    total = len(batches) * starts
    values, weights = tuple(value for value, _ in pairs), tuple(weight / total for _, weight in pairs)
    return HessianSpectrum(values, weights, count, way != DIFFERENCES, cost)


def _signs(count: int, *key: int) -> Tensor:
    """Return a random direction of equal components, shape (count,), by which a diagonal is weighed exactly."""
    return torch.randint(0, 2, (count,), generator=torch_stream(key[0], "spectrum", *key[1:])).mul(2.0).sub(1.0)


def _quadrature(
    signs: Sequence[Tensor], rounds: int, slope: Tensor, product: Product
) -> list[tuple[float, float]] | None:
    """Return nodes and weights from each start, None where a product is not finite."""
    nodes: list[tuple[float, float]] = []
    for start in signs:
        found = ritz(product, start.to(slope), rounds)
        if found is None:
            return None
        nodes += zip(found[0].tolist(), found[1][0].square().tolist(), strict=True)
    return nodes
