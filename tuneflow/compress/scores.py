"""Scores: what each channel of a group is worth, by its weights, its gradient or the curvature at it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tuneflow.compress.gates import Gates
from tuneflow.compress.group import Group
from tuneflow.compress.output_curvature import curvature_behind, outputs_of
from tuneflow.compress.step import StepRows
from tuneflow.nested import row_count

BATCH = 64  # rows of one backward pass

Score = Callable[[nn.Module, Sequence[Group], StepRows, int], list[Tensor]]


def magnitude(module: nn.Module, groups: Sequence[Group], rows: StepRows, count: int) -> list[Tensor]:
    """Sum of the absolute weights that make a channel, over the mean of its group. No rows are looked at.

    Source: Li, Kadav, Durdanovic, Samet, Graf, Pruning filters for efficient ConvNets, ICLR 2017.
    """
    del rows, count
    sums = [_absolute_weights(module, group) for group in groups]
    return [each / each.mean().clamp(min=torch.finfo(each.dtype).tiny) for each in sums]


def taylor(module: nn.Module, groups: Sequence[Group], rows: StepRows, count: int) -> list[Tensor]:
    """First-order change of a row's loss without the channel: |gradient at its gate|, averaged over rows.

    Source: Molchanov, Tyree, Karras, Aila, Kautz, ICLR 2017; at gates: Molchanov, Mallya, Tyree, Frosio, Kautz, CVPR
    2019.
    """
    total = _Mean(groups)
    for batch, size in batches_of(rows, count):
        with Gates(module, groups, size) as gates:
            loss = rows.loss_of(module, batch)
            total.add([part.abs() * size for part in gates.gradients([loss], [torch.ones_like(loss)])])
    return total.values


def obd(module: nn.Module, groups: Sequence[Group], rows: StepRows, count: int) -> list[Tensor]:
    """Second-order increase of the loss without the channel: half the curvature at its gate, in units of the loss.

    A trained module's gradient is about 0, so what is lost by closing a gate of 1 is h / 2, where h is the second
    derivative of the loss by the gate. It is the Gauss-Newton one, J^T H J with the curvature H of the loss in the
    outputs, as optimal brain damage has it for weights, which is never negative; one backward pass estimates it for all
    channels. For losses without curvature see `curvature_behind`.

    Source: LeCun, Denker, Solla, Optimal brain damage, NIPS 2, 1990.
    """
    total = _Mean(groups)
    for batch, size in batches_of(rows, count):
        with Gates(module, groups, size) as gates, outputs_of(module) as outputs:
            loss = rows.loss_of(module, batch)
            ends, (left, right) = curvature_behind(loss, outputs, size)
            both = left is right
            first = gates.gradients(ends, left, keep=not both)
            second = first if both else gates.gradients(ends, right)
        total.add([a * b * (size / 2) for a, b in zip(first, second, strict=True)])
    return total.values


SCORES: dict[str, Score] = {"obd": obd, "taylor": taylor, "magnitude": magnitude}
PER_COST = ("obd", "taylor")  # in units of the loss, so that they are divided by what a channel costs


class _Mean:
    """The mean over rows of what is added row by row, for each channel of each group."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._sums = [torch.zeros(group.width, dtype=torch.float64) for group in groups]
        self._rows = 0

    def add(self, parts: Sequence[Tensor]) -> None:
        """Add the values of a batch, shape (rows, width) for each group."""
        for total, part in zip(self._sums, parts, strict=True):
            total += part.detach().double().sum(0).cpu()
        self._rows += len(parts[0])

    @property
    def values(self) -> list[Tensor]:
        return [total / max(1, self._rows) for total in self._sums]


def batches_of(rows: StepRows, count: int) -> Iterator[tuple[Any, int]]:
    """Return batches of at most `count` rows, each with its number of rows."""
    size = min(BATCH, count)
    for batch in rows.batches(size, -(-count // size)):
        yield batch, row_count(batch[0])


def run_hooked(module: nn.Module, hooks: Sequence[RemovableHandle], rows: StepRows, count: int) -> None:
    """Run a module on `count` rows without gradients, for hooks that take note of it; they are removed."""
    try:
        with torch.no_grad():
            for batch, _ in batches_of(rows, count):
                rows.loss_of(module, batch)
    finally:
        for hook in hooks:
            hook.remove()


def _absolute_weights(module: nn.Module, group: Group) -> Tensor:
    total = torch.zeros(group.width, dtype=torch.float64)
    for member in group.makers:
        weight = getattr(module.get_submodule(member.layer), member.tensor).detach()
        if member.tensor == "weight" and weight.ndim > 1:
            sums = weight.movedim(member.dim, 0).flatten(1).abs().sum(1).double().cpu()
            total += sums[member.positions].sum(1)
    return total
