"""The losses and gradients of K trials: as one traced program, as one replayed per trial, or by plain autograd.

The three do the same; each is the next one's fallback. What they change in place are the buffers they are given.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils import _pytree as pytree

from tuneflow.data import Batch
from tuneflow.fused.graph import trace
from tuneflow.fused.look import LossOf, Seen, Whole, untouched_generators
from tuneflow.fused.refused import Refused, because
from tuneflow.fused.replay import compiled

Tensors = dict[str, Tensor]
Lists = Sequence[Tensor]


class Program(Protocol):
    """A way to compute one step's losses and gradients for lanes that are stacked along the first axis."""

    def __call__(self, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> tuple[Tensor, Lists]:
        """Losses (K,) and a gradient for each of `trained`: contiguous, the caller's to change until the next call.

        Args:
            trained: parameters, each (K, *shape).
            others: frozen parameters and buffers, each (K, *shape). Buffers are changed as forward changes them.
            leaves: the tensors of a batch, each (K, rows, ...).
            masks: dropout's, each (K, *shape): 0 or 1 / (1 - p).
        """


class Eager:
    """Plain autograd, lane by lane."""

    def __init__(self, step: "Step") -> None:
        self._step = step

    def __call__(self, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> tuple[Tensor, Lists]:
        losses, rows = [], []
        with torch.inference_mode(False), torch.enable_grad():
            for lane in zip(*(group.unbind() for group in [*trained, *others, *leaves, *masks])):
                own = [tensor.detach().requires_grad_() for tensor in lane[: len(trained)]]
                loss = self._step.loss([*own, *(tensor.detach() for tensor in lane[len(trained) :])])
                rows.append(torch.autograd.grad(loss, own))
                losses.append(loss.detach())
        return torch.stack(losses), [torch.stack(parts) for parts in zip(*rows)]


class Single:
    """The trace of one lane, replayed for each."""

    def __init__(self, step: "Step", inputs: Lists) -> None:
        first = [tensor[0].contiguous() for tensor in inputs]
        self._replay = _traced(step.gradients, first)
        self._gradients = [torch.empty_like(tensor) for tensor in inputs[: len(step.trained)]]

    def __call__(self, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> tuple[Tensor, Lists]:
        losses = trained[0].new_empty(len(trained[0]))
        for place, lane in enumerate(zip(*(group.unbind() for group in [*trained, *others, *leaves, *masks]))):
            for stack, own in zip([losses, *self._gradients], self._replay(*lane)):
                stack[place] = own
        return losses, self._gradients


class Stacked:
    """The trace of all lanes at once."""

    def __init__(self, step: "Step", inputs: Lists) -> None:
        self._replay = _traced(vmap(step.gradients, randomness="error"), inputs)

    def __call__(self, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> tuple[Tensor, Lists]:
        losses, *gradients = self._replay(*trained, *others, *leaves, *masks)
        return losses, gradients


class Step:
    """One lane's step as a function of a flat list of tensors: parameters, other tensors, batch, masks."""

    def __init__(self, module: nn.Module, loss_of: LossOf, seen: Seen, batch: Batch) -> None:
        self._whole = Whole(module, loss_of)
        self.seen = seen
        leaves, self._spec = pytree.tree_flatten(batch)
        self._leaves = len(leaves)
        self.trained = list(seen.trained)
        named = [*module.named_parameters(), *module.named_buffers()]
        self.others = [name for name, _ in named if name not in seen.trained]

    def loss(self, flat: Lists) -> Tensor:
        names = [f"module.{name}" for name in [*self.trained, *self.others]]
        rest = flat[len(names) :]
        batch = pytree.tree_unflatten(list(rest[: self._leaves]), self._spec)
        swapped = dict(zip(names, flat))
        loss: Tensor = functional_call(self._whole, swapped, (batch, rest[self._leaves :]))
        return loss

    def gradients(self, *flat: Tensor) -> tuple[Tensor, ...]:
        count = len(self.trained)
        function = grad_and_value(lambda own, rest: self.loss([*own, *rest]))
        gradients, loss = function(flat[:count], flat[count:])  # all of them arguments, so that buffers may change
        return (loss, *gradients)


def program(kind: str, step: Step, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> Program:
    """A program that was traced on these tensors, which are left as they are, and checked against plain autograd.

    Args:
        kind: "stacked", "single" or "eager"; the first two are traced.

    Raises:
        Refused: it cannot be traced, or its losses or gradients differ from autograd's by more than 1e-5 (float32) or
            1e-12 (float64) of the largest.
    """
    if kind == "eager":
        return Eager(step)
    inputs = [tensor.detach() for tensor in [*trained, *others, *leaves, *masks]]
    made: Program = Stacked(step, inputs) if kind == "stacked" else Single(step, inputs)
    with torch.no_grad():
        _check(made, Eager(step), trained, others, leaves, masks)
    return made


def _traced(function: Callable[..., Any], inputs: Lists) -> Callable[..., Lists]:
    with untouched_generators(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # of vmap; a replay has no vmap in it
        try:
            return compiled(trace(function, inputs))
        except Exception as error:
            raise because(error) from error


def _check(made: Program, plain: Program, trained: Lists, others: Lists, leaves: Lists, masks: Lists) -> None:
    mine, theirs = [tensor.clone() for tensor in others], [tensor.clone() for tensor in others]
    losses, gradients = made(trained, mine, leaves, masks)
    expected, exact = plain(trained, theirs, leaves, masks)
    for what, got, want in [
        ("losses", losses, expected),
        *(("gradients", *pair) for pair in zip(gradients, exact)),
        *(("buffers", *pair) for pair in zip(mine, theirs)),
    ]:
        tolerance = 1e-12 if want.dtype == torch.float64 else 1e-5
        scale = max((float(g.abs().max()) for g in exact if g.numel()), default=1.0) if what == "gradients" else 1.0
        if not _close(got, want, tolerance, scale):
            far = float((got - want).abs().max())
            raise Refused(f"the traced {what} differ from autograd's by {far:.2g}, more than {tolerance:g} of theirs")


def _close(got: Tensor, want: Tensor, tolerance: float, scale: float) -> bool:
    if not want.is_floating_point():
        return bool(torch.equal(got, want))
    return bool(torch.allclose(got, want, rtol=tolerance, atol=tolerance * scale, equal_nan=True))
