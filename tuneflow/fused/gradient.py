"""Gradients of all lanes; a large one may stay factored, and need not be in memory as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGE = 1 << 17  # bytes of a lane's parameter, from which on it moves by itself, right after its gradient is made


@dataclass(frozen=True)
class FactoredGradient:
    """A gradient (K, m, n) that is kept as a product of two factors.

    A lane's part is computed when it is used, in memory that the next lane's part overwrites, so that it stays in the
    cache: the gradients of all lanes would not fit.

    Attributes:
        left: (K, m, r).
        right: (K, r, n).
    """

    left: Tensor
    right: Tensor

    def __getitem__(self, lane: int) -> Tensor:
        return torch.mm(self.left[lane], self.right[lane])

    def whole(self) -> Tensor:
        return torch.bmm(self.left, self.right)


Gradient = Tensor | FactoredGradient
Groups = Sequence[dict[str, Any]]  # torch's parameter groups, of each lane


def of_lane(gradient: Gradient, lane: int, into: Tensor) -> Tensor:
    """Return a lane's part of a gradient; a product is written to `into`."""
    if isinstance(gradient, FactoredGradient):
        return torch.mm(gradient.left[lane], gradient.right[lane], out=into)
    return gradient[lane]


def is_large(parameter: Tensor) -> bool:
    """True if each lane of this stacked parameter is worth a kernel call of its own, which holds on a CPU only."""
    return parameter.device.type == "cpu" and parameter.nbytes // max(1, len(parameter)) >= LARGE


def clip(gradients: Sequence[Tensor], limits: Tensor) -> None:
    """Clip each lane's gradient to its norm in `limits`, shape (K,), inf for none, as `clip_grad_norm_` does."""
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    scale = (limits / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1.0)
    scale = torch.where(limits.isinf(), 1.0, scale)
    for gradient in gradients:
        gradient.mul_(along(scale, gradient))


def along(vector: Tensor, like: Tensor) -> Tensor:
    """Reshape (K,) to (K, 1, ..., 1), to broadcast against `like`."""
    return vector.view(-1, *[1] * (like.dim() - 1))


class Snapshot:
    """A copy of stacked tensors, from which single lanes can be restored."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._were = [tensor.clone() for tensor in tensors]

    def restore(self, lanes: Sequence[int]) -> None:
        if not lanes or not self._tensors:
            return
        rows = torch.tensor(lanes, device=self._tensors[0].device)
        for tensor, was in zip(self._tensors, self._were, strict=True):
            tensor.index_copy_(0, rows, was.index_select(0, rows))
