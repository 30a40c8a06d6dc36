"""Lanczos: the largest eigenvalue of a loss's Hessian, from Hessian-vector products."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tuneflow.seeds import seeded_globals

Closure = Callable[[Any], Tensor]  # a batch to its scalar loss, with graph
Product = Callable[[Tensor], Tensor]  # a vector, shape (d,), to a symmetric matrix times it

APART = 0.1  # from a finite difference, relative: what a product by double backward may be under custom functions


def lanczos(product: Product, start: Tensor, rounds: int) -> tuple[float, Tensor]:
    """Return the largest (most positive) eigenvalue and its unit vector, approximated from below.

    Each round widens a Krylov space by one product; the result is the best that this space holds, so it never exceeds
    the true value but by rounding, and never falls as rounds are added. Power iteration finds the eigenvalue of largest
    size instead, which may be negative. Every new vector is made orthogonal to all before it, twice, without which
    rounding creates copies of eigenvalues. The projected matrix is computed from each product's components along the
    vectors before it, not from the length of its remainder, which noise in the products adds to. Stops early when the
    space is closed under `product`: the result is then exact, for a start with a component along the eigenvector.

    Args:
        product: maps a vector to the matrix times it, both shape (d,), of the dtype and device of `start`.
        start: shape (d,), not zero. Not modified.
        rounds: products to spend, at least 1; more than d are not needed.

    Returns:
        The eigenvalue and its vector, shape (d,); nan and the start where a product is not finite.

    Example:
        >>> matrix = torch.diag(torch.tensor([-5.0, 1.0, 3.0]))
        >>> round(lanczos(lambda v: matrix @ v, torch.ones(3), rounds=3)[0], 4)
        3.0

    Source: Golub, Van Loan, Matrix Computations, 4th edition, 2013, sections 10.1 and 10.3.
    """
    found = ritz(product, start, rounds)
    if found is None:
        return math.nan, start
    values, vectors, basis = found
    return float(values[-1]), vectors[:, -1].to(basis) @ basis


def ritz(product: Product, start: Tensor, rounds: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return what `lanczos` reads its result off: the matrix as its Krylov space sees it; None where it is not finite.

    Args:
        product: as for `lanczos`.
        start: as for `lanczos`.
        rounds: products to spend.

    Returns:
        The eigenvalues of the projected matrix, float64 and ascending, shape (k,), k at most `rounds`; its eigenvectors
        as columns, shape (k, k), the first row of which are their components along the start; and the space's
        orthonormal basis, shape (k, d), the start first.
    """
    rounds = min(rounds, start.numel())
    basis = start.new_zeros(rounds, start.numel())
    basis[0] = start / start.norm()
    inside = torch.zeros(rounds, rounds, dtype=torch.float64)  # the matrix as the basis sees it; upper half only
    for size in range(1, rounds + 1):
        known = basis[:size]
        image = product(known[-1])
        inside[:size, size - 1] = known @ image
        for _ in range(2):
            image = image - (known @ image) @ known
        length = float(image.norm())
        if not math.isfinite(length):
            return None
        if size == rounds or length <= 10 * torch.finfo(start.dtype).eps * float(inside.abs().max()):
            break
        basis[size] = image / length
    values, vectors = torch.linalg.eigh(inside[:size, :size], UPLO="U")
    return values, vectors, known


class Hessian:
    """The Hessian of the loss on one batch, as products with flat vectors.

    Args:
        loss_of: maps a batch to its scalar loss.
        parameters: leaves that require gradients.
        batch: one mini-batch.
        key: of the global generators whenever the loss is evaluated, so that it is one function of the parameters.

    Attributes:
        gradients: cost so far, in gradients of the batch; a product by double backward counts 2.
    """

    def __init__(self, loss_of: Closure, parameters: Sequence[Tensor], batch: Any, *key: int | str) -> None:
        self.loss_of, self.parameters, self.batch, self.key = loss_of, parameters, batch, key
        self.gradients = 0.0

    def double_backward(self) -> tuple[Tensor, Product]:
        """Return the gradient, and a function for products through its graph, which is built once.

        A custom autograd function may hide that its backward pass is not differentiable: `once_differentiable` raises
        only where a graph leads through it, a kernel that keeps its gradient never raises. Where the loss has one, a
        product along the gradient is compared with its finite difference.

        Raises:
            RuntimeError: the loss has no double backward, or not all of it; raised here, or when a product is taken.
        """
        loss, wanted = self._loss(), None
        if _has_custom(loss):
            wanted = self._difference(self._slope())  # before the graph is built: it moves the parameters
            loss = self._loss()
        self.gradients += 1
        with _one_function(self.parameters, self.key):
            slopes = _slopes(loss, self.parameters, create_graph=True)
        bent = [number for number, slope in enumerate(slopes) if slope.requires_grad]
        if not bent:
            raise RuntimeError("no part of the gradient has a graph.")

        def product(vector: Tensor) -> Tensor:
            self.gradients += 2
            parts = self._parts(vector)
            outputs, weights = [slopes[n] for n in bent], [parts[n] for n in bent]
            found = torch.autograd.grad(outputs, self.parameters, weights, retain_graph=True, allow_unused=True)
            return flat(_dense(found, self.parameters))

        slope = flat(slopes)
        if wanted is not None and not float((product(slope) - wanted).norm()) <= APART * float(wanted.norm()):
            raise RuntimeError("a custom autograd function hides a part of the curvature.")
        return slope, product

    def differences(self) -> tuple[Tensor, Product]:
        """Return the gradient, and a function for products by central differences of gradients.

        The step is eps^(1/3) of the parameters' norm, eps that of the coarsest dtype: where loss and rounding are
        smooth, that balances the two errors. A shorter step sees more of each kink that it happens to cross.
        """
        return self._slope(), self._difference

    def _loss(self) -> Tensor:
        with _one_function(self.parameters, self.key):
            return _scalar(self.loss_of(self.batch))

    def _slope(self) -> Tensor:
        self.gradients += 1
        return flat(gradient(self.loss_of, self.parameters, self.batch, *self.key))

    def _difference(self, vector: Tensor) -> Tensor:
        coarsest = max(torch.finfo(p.dtype).eps for p in self.parameters)
        step = coarsest ** (1 / 3) * max(1.0, float(flat(self.parameters).norm())) / float(vector.norm())
        return (self._beside(vector * step) - self._beside(vector * -step)).div(2 * step)

    def _beside(self, shift: Tensor) -> Tensor:
        """Return the gradient at the parameters moved by `shift`; they are restored bit for bit."""
        kept = [p.detach().clone() for p in self.parameters]
        try:
            with torch.no_grad():
                for parameter, part in zip(self.parameters, self._parts(shift)):
                    parameter.add_(part)
            return self._slope()
        finally:
            with torch.no_grad():
                for parameter, before in zip(self.parameters, kept):
                    parameter.copy_(before)

    def _parts(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector, [p.numel() for p in self.parameters])
        return [piece.reshape(p.shape).to(p) for piece, p in zip(pieces, self.parameters)]


def gradient(loss_of: Closure, parameters: Sequence[Tensor], batch: Any, *key: int | str) -> list[Tensor]:
    """Return the gradient of the loss on `batch`, dense; zeros for a parameter that the loss does not use.

    Args:
        loss_of: maps a batch to its scalar loss.
        parameters: leaves that require gradients.
        batch: one mini-batch.
        key: of the global generators while the loss is evaluated.

    Raises:
        ValueError: the loss is not a scalar with a graph.
    """
    with _one_function(parameters, key):
        found = _slopes(_scalar(loss_of(batch)), parameters, create_graph=False)
    return [slope.detach() for slope in found]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all elements in one vector, on the first tensor's device; float64 where any tensor is, else float32."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return torch.cat([t.detach().reshape(-1).to(tensors[0].device, dtype) for t in tensors])


@contextmanager
def unfused() -> Iterator[None]:
    """A block within which attention and recurrent layers run on kernels that have a double backward."""
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
        yield


@contextmanager
def _one_function(parameters: Sequence[Tensor], key: tuple[int | str, ...]) -> Iterator[None]:
    """A block within which all random draws of the loss are seeded by `key`, and graphs are kept."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for device in {p.device for p in parameters}:
            stack.enter_context(seeded_globals(*key, device=device))
        yield


def _scalar(loss: Tensor) -> Tensor:
    if loss.numel() != 1 or not loss.requires_grad:
        graph = "a" if loss.requires_grad else "no"
        raise ValueError(
            "the loss of a batch needs to be one number with a graph to the parameters, got shape"
            f" {tuple(loss.shape)} with {graph} graph."
        )
    return loss.reshape(())


def _slopes(loss: Tensor, parameters: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    return _dense(torch.autograd.grad(loss, parameters, create_graph=create_graph, allow_unused=True), parameters)


def _has_custom(loss: Tensor) -> bool:
    """True if the loss depends on a custom autograd function."""
    waiting: list[Any] = [loss.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        after = {later for later, _ in node.next_functions} - seen - {None}
        seen |= after
        waiting += after
    return False


def _dense(found: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor]:
    return [
        torch.zeros_like(p, requires_grad=False) if slope is None else slope.to_dense() if slope.is_sparse else slope
        for slope, p in zip(found, parameters)
    ]
