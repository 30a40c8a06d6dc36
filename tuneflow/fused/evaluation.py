"""Evaluation of K modules on the same inputs: as one traced program, as one replayed per lane, or in plain torch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils import _pytree as pytree

from tuneflow.fused.codegen import compiled
from tuneflow.fused.inspection import run_carefully
from tuneflow.fused.program import traced_quietly
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import ProgramInputs
from tuneflow.fused.verify import compare
from tuneflow.seeds import seeded_globals

Lists = Sequence[Tensor]


class EvaluationProgram:
    """The outputs of K modules in evaluation mode, as new tensors (K, rows, ...).

    Args:
        kind: as in Lanes.
        skeleton: one of the modules, as a copy; it is put into evaluation mode.
        names: of its tensors, in the order of `given`.
        given: the tensors of all lanes, with the inputs appended to `shared`.
        spec: of the inputs.

    Raises:
        CannotFuse: it cannot be traced, or its outputs differ from plain torch's.
    """

    def __init__(
        self, kind: str, skeleton: nn.Module, names: Sequence[str], given: ProgramInputs, spec: pytree.TreeSpec
    ) -> None:
        self._skeleton, self._names, self._spec = skeleton.eval(), names, spec
        self._made: pytree.TreeSpec | None = None
        with torch.no_grad():
            inputs = pytree.tree_unflatten(list(given.lane(0)[len(names) :]), spec)
            run_carefully(skeleton, lambda: skeleton(inputs))
            self._run = self._program(kind, given)
            self._verify(given)

    def __call__(self, given: ProgramInputs) -> Any:
        with torch.no_grad():
            return pytree.tree_unflatten(list(self._run(given)), self._made)  # type: ignore[arg-type]

    def _program(self, kind: str, given: ProgramInputs) -> Callable[[ProgramInputs], Lists]:
        if kind == "stacked":
            together = compiled(traced_quietly(vmap(self._taken_apart, given.dims), given.flat), fresh=True)
            return lambda given: together(*given.flat)
        one: Callable[..., Lists] = self._forward
        if kind == "single":
            one = compiled(traced_quietly(one, [tensor.contiguous() for tensor in given.lane(0)]), fresh=True)

        def each(given: ProgramInputs) -> Lists:
            rows = [one(*given.lane(lane)) for lane in range(len((*given.trained, *given.others)[0]))]
            return [torch.stack(parts) for parts in zip(*rows)]

        return each

    def _taken_apart(self, *flat: Tensor) -> list[Tensor]:
        """Run `_forward` under an unused gradient: without it, vmap does not decompose recurrent nets."""
        made: Any = vjp(lambda unused: (unused, self._forward(*flat)), torch.ones(()), has_aux=True)
        return list(made[2])

    def _forward(self, *flat: Tensor) -> list[Tensor]:
        count = len(self._names)
        inputs = pytree.tree_unflatten(list(flat[count:]), self._spec)
        made, self._made = pytree.tree_flatten(functional_call(self._skeleton, dict(zip(self._names, flat)), (inputs,)))
        for leaf in made:
            if not isinstance(leaf, Tensor):
                raise CannotFuse(f"forward gives a {type(leaf).__name__}; tensors can be stacked")
        return made

    def _verify(self, given: ProgramInputs) -> None:
        with seeded_globals("fused", "check"):
            made = self._run(given)
            for lane in range(len(made[0])):
                mine = [("outputs", stack[lane]) for stack in made]
                compare(mine, lambda own: [("outputs", part) for part in self._forward(*own)], given.lane(lane))
