"""An own loss in an evaluation, which has no gradients, unless the loss cannot be computed without them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tuneflow.data.data import Batch

LossOf = Callable[[nn.Module, Batch], Tensor]
MISSING = "does not require grad"  # in torch's message where a gradient is taken of what has none


def evaluated(loss_of: LossOf) -> LossOf:
    """Return a loss of (module, batch) that is computed without gradients, or with them where it takes some itself.

    A loss that attacks its inputs, or has a gradient penalty, fails without. It is then computed once more with
    gradients; what is returned has none, and those of parameters are as they were.
    """

    def loss_in_evaluation(module: nn.Module, batch: Batch) -> Tensor:
        try:
            return loss_of(module, batch)
        except RuntimeError as error:
            if torch.is_grad_enabled() or MISSING not in str(error):
                raise
        with torch.enable_grad(), kept_gradients(module.parameters()):
            value = loss_of(module, batch)
        return value.detach() if isinstance(value, Tensor) else value

    return loss_in_evaluation


@contextmanager
def kept_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """A block after which every parameter has the gradient that it had before."""
    before = [(parameter, parameter.grad) for parameter in parameters]
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
