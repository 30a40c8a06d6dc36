"""Whether a program computes what plain torch does, but for rounding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuneflow.fused.inspection import untouched_generators
from tuneflow.fused.program import LaneStep, Program
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import ProgramInputs

TOLERANCE = {torch.float64: 1e-12}  # of the largest; others 1e-5
_TRIES, ROUNDINGS = 4, 8.0

Facts = list[tuple[str, Tensor]]  # what it is, and its value


def verify(program: Program, steps: Mapping[int, LaneStep], given: ProgramInputs) -> None:
    """Compare some lanes' losses, gradients and buffers with autograd's; nothing that is given is changed.

    Where they differ, autograd is run again on tensors that differ by a rounding error: what that changes is not held
    against the program. Close to a minimum, or where an activation is almost 0, that is a lot.

    Args:
        steps: by lane, of its own module.

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
    """Raise CannotFuse unless `mine` is what `plain` makes of `own`."""
    theirs = plain(own)
    loss = theirs[0][1]
    if theirs[0][0] == "loss" and not loss.isfinite() and not mine[0][1].isfinite():
        return  # such a lane does not move
    wrong = _wrong(mine, theirs)
    if not wrong:
        return
    if _wrong(plain(own), theirs):
        raise CannotFuse("forward gives something else every time, as with a counter or random numbers of its own")
    noise = [0.0] * len(theirs)
    for again in _shaken(own):
        for place, (_, value) in enumerate(plain(again)):
            noise[place] = max(noise[place], _largest(value - theirs[place][1]))
    for place in wrong:
        what, want = theirs[place]
        far = _largest(mine[place][1] - want)
        if not far <= ROUNDINGS * noise[place]:  # NaN is no number to be below
            tolerance = TOLERANCE.get(want.dtype, 1e-5)
            raise CannotFuse(
                f"the traced {what} differ from plain torch's by {far:.2g}, more than {tolerance:g} of theirs"
            )


def _facts(loss: Tensor, gradients: Sequence[Tensor], others: Sequence[Tensor]) -> Facts:
    return [("loss", loss), *(("gradients", g) for g in gradients), *(("buffers", other) for other in others)]


def _plain(step: LaneStep, given: ProgramInputs, own: Sequence[Tensor]) -> Facts:
    start, end = len(given.trained), len(given.trained) + len(given.others)
    others = [tensor.clone() for tensor in own[start:end]]
    with untouched_generators("check"):
        loss, gradients = step.plain([*own[:start], *others, *own[end:]])
    return _facts(loss, gradients, others)


def _wrong(mine: Facts, theirs: Facts) -> list[int]:
    return [place for place, (_, got) in enumerate(mine) if not _is_close(got, place, theirs)]


def _is_close(got: Tensor, place: int, theirs: Facts) -> bool:
    what, want = theirs[place]
    if not want.is_floating_point():
        return torch.equal(got, want)
    tolerance = TOLERANCE.get(want.dtype, 1e-5)
    scale = max(_largest(value) for name, value in theirs if name == what) if what == "gradients" else 1.0
    return torch.allclose(got, want, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _shaken(own: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The same tensors, each number a few rounding errors away."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        yield [t * (1 + _rounding(t, draw)) if t.is_floating_point() else t for t in own]


def _rounding(tensor: Tensor, draw: torch.Generator) -> Tensor:
    noise = torch.rand(tensor.shape, generator=draw, dtype=torch.float64) - 0.5
    return (noise * 8 * torch.finfo(tensor.dtype).eps).to(tensor)
