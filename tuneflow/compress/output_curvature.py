"""Curvature of a loss in a module's outputs, as vectors to send back through the module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tuneflow.nested import mapped

EXACT = 64  # outputs of a row up to which the curvature is formed, one backward pass through the loss for each


class Outputs:
    """The outputs of a module within `outputs_of`.

    Attributes:
        behind: the tensors, as they depend on the module's weights and gates.
        ahead: their copies that the loss was computed of; leaves that require gradients.
    """

    def __init__(self) -> None:
        self.behind: list[Tensor] = []
        self.ahead: list[Tensor] = []

    def cut(self, tensor: Tensor) -> Tensor:
        """Return a copy without history, and remember both; what has no gradient stays."""
        if not tensor.requires_grad:
            return tensor
        copy = tensor.detach().requires_grad_()
        self.behind.append(tensor)
        self.ahead.append(copy)
        return copy


class Vectors(NamedTuple):
    """Two vectors in the space of the outputs, each a list of tensors in their shapes.

    The expectation of (J^T left) (J^T right), over the draw of both, is the diagonal of J^T H J: J is the derivative of
    the outputs by some parameters, H the curvature of the loss in the outputs. Where both are the same, the product is
    a square, which varies less.
    """

    left: list[Tensor]
    right: list[Tensor]


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[Outputs]:
    """A block in which each output of `module` is cut off, so that a loss can be looked at as a function of outputs."""
    outputs = Outputs()
    handle = module.register_forward_hook(lambda _, __, result: mapped(outputs.cut, result))
    try:
        yield outputs
    finally:
        handle.remove()


def curvature_behind(loss: Tensor, outputs: Outputs, rows: int) -> tuple[list[Tensor], Vectors]:
    """Return tensors, and random vectors for them whose products have the curvature of `loss` as their mean.

    The tensors are the module's outputs. With up to 64 of them a row, H of each row is formed by double backward and
    taken apart as S S^T; the vectors are S times random signs, and negative curvature counts as 0. With more, the
    vectors are random signs v and H v. A loss that is flat or cannot be differentiated twice, such as L1, or that is
    not computed of outputs, has the squared gradient of each row in place of H (the empirical Fisher information).
    Draws from torch's global generator.

    Args:
        loss: a mean over the rows.
        outputs: that it was computed of.
        rows: of the batch.

    Source: Gauss-Newton: Schraudolph, Neural Computation 14, 2002; random signs: Hutchinson, Communications in
    Statistics 18, 1989.
    """
    if not outputs.ahead:
        alone = [torch.full_like(loss, rows**0.5)]
        return [loss], Vectors(alone, alone)
    ahead = outputs.ahead
    gradients = torch.autograd.grad(loss, ahead, create_graph=True, allow_unused=True, materialize_grads=True)
    try:
        vectors = _curved(gradients, ahead, rows)
    except RuntimeError:  # no second derivative
        vectors = None
    return outputs.behind, _squared_gradient(gradients, rows) if vectors is None else vectors


def _curved(gradients: Sequence[Tensor], outputs: Sequence[Tensor], rows: int) -> Vectors | None:
    if not any(gradient.requires_grad for gradient in gradients):
        return None
    by_row = all(output.ndim and len(output) == rows for output in outputs)
    if by_row and sum(output.numel() for output in outputs) <= EXACT * rows:
        return _factored(gradients, outputs, rows)
    signs = [_signs_like(output) for output in outputs]
    products = _times_curvature(gradients, outputs, signs)
    return Vectors(signs, products) if any(product.any() for product in products) else None


def _factored(gradients: Sequence[Tensor], outputs: Sequence[Tensor], rows: int) -> Vectors | None:
    flat = torch.cat([output.reshape(rows, -1) for output in outputs], 1)
    columns = []
    for number in range(flat.shape[1]):
        unit = torch.zeros_like(flat)
        unit[:, number] = 1
        columns.append(_joined(_times_curvature(gradients, outputs, _parted(unit, outputs)), rows))
    curvature = torch.stack(columns, 2).double()
    if not curvature.any():
        return None
    values, axes = torch.linalg.eigh((curvature + curvature.mT) / 2)
    signs = _signs_like(flat).double()
    root = axes @ (values.clamp(min=0).sqrt() * signs)[:, :, None]
    both = _parted(root[:, :, 0].to(flat), outputs)
    return Vectors(both, both)


def _times_curvature(gradients: Sequence[Tensor], outputs: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    pairs = [(part, vector) for part, vector in zip(gradients, vectors, strict=True) if part.requires_grad]
    curved, along = zip(*pairs, strict=True)
    return list(torch.autograd.grad(curved, outputs, along, retain_graph=True, materialize_grads=True))


def _squared_gradient(gradients: Sequence[Tensor], rows: int) -> Vectors:
    """Return the gradient of each row, in the scale of the mean over rows."""
    both = [gradient.detach() * rows**0.5 for gradient in gradients]
    return Vectors(both, both)


def _signs_like(tensor: Tensor) -> Tensor:
    return (torch.randint(0, 2, tensor.shape) * 2 - 1).to(tensor)


def _joined(parts: Sequence[Tensor], rows: int) -> Tensor:
    return torch.cat([part.reshape(rows, -1) for part in parts], 1)


def _parted(flat: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
    sizes = [output.numel() // len(output) for output in outputs]
    parts = torch.split(flat, sizes, 1)
    return [part.reshape(output.shape) for part, output in zip(parts, outputs, strict=True)]
