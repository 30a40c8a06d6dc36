"""Verification of a program against plain torch, up to rounding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuneflow.fused.program import LaneStep, Program
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import ProgramInputs
from tuneflow.seeds import seeded_globals

TOLERANCE = {torch.float64: 1e-12}  # of the largest; others 1e-5
_TRIES, ROUNDINGS = 4, 8.0

Facts = list[tuple[str, Tensor]]  # name and value


def verify(program: Program, steps: Mapping[int, LaneStep], given: ProgramInputs) -> None:
    """Compare some lanes' losses, gradients and buffers with autograd's; no tensor is modified.

    Where they differ, autograd runs again on tensors perturbed by a rounding error: a difference of that size is
    allowed. Close to a minimum, or where an activation is almost 0, it is large.

    Args:
        program: to be verified.
        steps: by lane, of its own module.
        given: the tensors to run it on.

    Raises:
        CannotFuse: they differ by more than 1e-5 (float32) or 1e-12 (float64) of the largest, beyond rounding.
    """
    tested = replace(given, others=[tensor.clone() for tensor in given.others])
    found: dict[int, Facts] = {}
    with torch.no_grad():
        for part in program(tested, list(steps)):
            for lane in steps if part.lane is None else [part.lane]:
                own: list[Any] = [part.losses, *part.gradients]
                loss, *gradients = [(value[lane] if part.lane is None else value).clone() for value in own]
                found[lane] = _facts(loss, gradients, [])
        for lane, step in steps.items():
            found[lane] += [("buffers", tensor[lane]) for tensor in tested.others]
            compare(found[lane], partial(_plain, step, given), given.lane(lane))


def compare(mine: Facts, plain: Callable[[Sequence[Tensor]], Facts], own: Sequence[Tensor]) -> None:
    """Raise CannotFuse unless `mine` agrees with `plain(own)`."""
    theirs = plain(own)
    loss = theirs[0][1]
    if theirs[0][0] == "loss" and not loss.isfinite() and not mine[0][1].isfinite():
        return  # such a lane does not move
    wrong = _wrong(mine, theirs)
    if not wrong:
        return
    if _wrong(plain(own), theirs):
        raise CannotFuse("forward returns something else every time, as with a counter or random numbers of its own")
    noise = [0.0] * len(theirs)
    for again in _shaken(own):
        for index, (_, value) in enumerate(plain(again)):
            noise[index] = max(noise[index], _largest(value - theirs[index][1]))
    for index in wrong:
        what, want = theirs[index]
        far = _largest(mine[index][1] - want)
        if not far <= ROUNDINGS * noise[index]:  # NaN is no number to be below
            tolerance = TOLERANCE.get(want.dtype, 1e-5)
            raise CannotFuse(
                f"the traced {what} differ from plain torch's by {far:.2g}, more than {tolerance:g} of theirs"
            )


def _facts(loss: Tensor, gradients: Sequence[Tensor], others: Sequence[Tensor]) -> Facts:
    return [("loss", loss), *(("gradients", g) for g in gradients), *(("buffers", other) for other in others)]


def _plain(step: LaneStep, given: ProgramInputs, own: Sequence[Tensor]) -> Facts:
    start, end = len(given.trained), len(given.trained) + len(given.others)
    others = [tensor.clone() for tensor in own[start:end]]
    with seeded_globals("fused", "check"):
        loss, gradients = step.plain([*own[:start], *others, *own[end:]])
    return _facts(loss, gradients, others)


def _wrong(mine: Facts, theirs: Facts) -> list[int]:
    return [index for index, (_, got) in enumerate(mine) if not _is_close(got, index, theirs)]


def _is_close(got: Tensor, index: int, theirs: Facts) -> bool:
    what, want = theirs[index]
    if not want.is_floating_point():
        return torch.equal(got, want)
    tolerance = TOLERANCE.get(want.dtype, 1e-5)
    scale = max(_largest(value) for name, value in theirs if name == what) if what == "gradients" else 1.0
    return torch.allclose(got, want, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _shaken(own: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield copies of the tensors, each number a few rounding errors away."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        yield [t * (1 + _rounding(t, draw)) if t.is_floating_point() else t for t in own]


def _rounding(tensor: Tensor, draw: torch.Generator) -> Tensor:
    noise = torch.rand(tensor.shape, generator=draw, dtype=torch.float64) - 0.5
    return (noise * 8 * torch.finfo(tensor.dtype).eps).to(tensor)
