"""The losses and gradients of K trials: as one traced program, as one replayed per trial, or by plain autograd.

The three agree but for rounding; each is a fallback for the one before. In place they change buffers only.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils import _pytree as pytree

from tuneflow.data.data import Batch
from tuneflow.fused.codegen import compiled
from tuneflow.fused.dropout import MaskedDropout
from tuneflow.fused.gradient import FactoredGradient, Gradient
from tuneflow.fused.graph import trace
from tuneflow.fused.inspection import LossOf
from tuneflow.fused.refusal import because
from tuneflow.fused.stacked_tensors import ProgramInputs
from tuneflow.seeds import seeded_globals

Lists = Sequence[Tensor]


class StepGradients(NamedTuple):
    """Loss and gradients of one lane, or of all where `lane` is None; then every tensor has the lanes first.

    The caller may change the gradients; they are valid until the next ones.
    """

    lane: int | None
    losses: Tensor
    gradients: Sequence[Gradient]


class Program(Protocol):
    """A way to compute a step's losses and gradients."""

    @property
    def changed(self) -> Sequence[int]:
        """Indices in `ProgramInputs.others` of the tensors that a call changes."""

    def __call__(self, given: ProgramInputs, lanes: Sequence[int]) -> Iterator[StepGradients]:
        """Yield losses and gradients of at least these lanes; parameters may be updated in between."""


class EagerProgram:
    """Plain autograd, lane by lane."""

    def __init__(self, step: "LaneStep", given: ProgramInputs) -> None:
        self._step = step
        self.changed = list(range(len(given.others)))

    def __call__(self, given: ProgramInputs, lanes: Sequence[int]) -> Iterator[StepGradients]:
        for lane in lanes:
            yield StepGradients(lane, *self._step.plain(given.lane(lane)))


class ReplayedProgram:
    """The trace of one lane, replayed for each."""

    def __init__(self, step: "LaneStep", given: ProgramInputs) -> None:
        flat = [tensor.contiguous() for tensor in given.lane(0)]
        self._replay, self.changed = _traced(step.gradients, flat, given)

    def __call__(self, given: ProgramInputs, lanes: Sequence[int]) -> Iterator[StepGradients]:
        for lane in lanes:
            loss, *gradients = self._replay(*given.lane(lane))
            yield StepGradients(lane, loss, gradients)


class StackedProgram:
    """The trace of all lanes at once."""

    def __init__(self, step: "LaneStep", given: ProgramInputs) -> None:
        lasting = len(given.trained) + len(given.others) + len(given.shared)
        together = vmap(step.gradients, in_dims=given.dims, randomness="error")
        self._replay, self.changed = _traced(together, given.flat, given, lasting)

    def __call__(self, given: ProgramInputs, lanes: Sequence[int]) -> Iterator[StepGradients]:
        del lanes  # all are computed
        losses, *made = self._replay(*given.flat)
        yield StepGradients(
            None, losses, [FactoredGradient(*part) if isinstance(part, tuple) else part for part in made]
        )


class LaneStep:
    """One lane's step as a function of a flat list of tensors, in the order of `ProgramInputs.flat`.

    Args:
        skeleton: run with other tensors in place of its own.
        loss_of: (module, batch) -> scalar.
        names: of its tensors, in that order.
        trained: number of leading tensors that are trained.
        spec: of the batch.
    """

    def __init__(
        self, skeleton: nn.Module, loss_of: LossOf, names: Sequence[str], trained: int, spec: pytree.TreeSpec
    ) -> None:
        self._whole = _ModuleAndLoss(skeleton, loss_of)
        self._names = [f"module.{name}" for name in names]
        self._trained, self._spec = trained, spec

    def loss(self, flat: Lists) -> Tensor:
        count = len(self._names)
        leaves, masks = flat[count : count + self._spec.num_leaves], flat[count + self._spec.num_leaves :]
        batch = pytree.tree_unflatten(list(leaves), self._spec)
        loss: Tensor = functional_call(self._whole, dict(zip(self._names, flat)), (batch, masks))
        return loss

    def gradients(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Return the loss and the gradients, by functorch."""
        function = grad_and_value(lambda own, rest: self.loss([*own, *rest]))
        own, rest = flat[: self._trained], flat[self._trained :]  # all of them arguments, so that buffers may change
        gradients, loss = function(own, rest)
        return (loss, *gradients)

    def plain(self, flat: Lists) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and the gradients, by autograd."""
        with torch.inference_mode(False), torch.enable_grad():
            own = [tensor.detach().requires_grad_() for tensor in flat[: self._trained]]
            loss = self.loss([*own, *(tensor.detach() for tensor in flat[self._trained :])])
            return loss.detach(), list(torch.autograd.grad(loss, own))


class _ModuleAndLoss(nn.Module):
    """Module and loss as one module: a batch and dropout masks in, the loss out."""

    def __init__(self, module: nn.Module, loss_of: LossOf) -> None:
        super().__init__()
        self.module = module
        self._loss_of = (loss_of,)  # in a tuple, so that a loss that is a module is none of this one's

    def forward(self, batch: Batch, masks: Lists) -> Tensor:
        with MaskedDropout(masks):
            return self._loss_of[0](self.module, batch)


KINDS: dict[str, Callable[[LaneStep, ProgramInputs], Program]] = {
    "stacked": StackedProgram,
    "single": ReplayedProgram,
    "eager": EagerProgram,
}


def traced_quietly(function: Callable[..., Any], inputs: Lists, **how: Any) -> Any:
    """Trace `function`, and leave all global state as it was.

    Raises:
        CannotFuse: it cannot be traced; the message says where.
    """
    mkldnn = torch._C._get_mkldnn_enabled()
    with seeded_globals("fused", "trace"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # of vmap; a replay has no vmap in it
        torch._C._set_mkldnn_enabled(False)  # recurrent nets of it cannot be taken apart
        try:
            return trace(function, [tensor.detach() for tensor in inputs], **how)
        except Exception as error:
            raise because(error) from error
        finally:
            torch._C._set_mkldnn_enabled(mkldnn)


def _traced(
    function: Callable[..., Any], inputs: Lists, given: ProgramInputs, lasting: int | None = None
) -> tuple[Callable[..., Sequence[Any]], list[int]]:
    """Return the replay of `function`, and the indices in `given.others` of the tensors that it changes."""
    traced = traced_quietly(function, inputs, lasting=lasting)
    first = len(given.trained)
    return compiled(traced), [n - first for n in traced.changed if first <= n < first + len(given.others)]
