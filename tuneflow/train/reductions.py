"""Reductions: the way from chunks to all rows that a loss or metric allows, known of torch's and ours, else tried out.

Most are sums or means over rows, elements, or targets that count. Which one is seen by comparing a few rows, and then
many, with two parts of them, on random outputs; a function that fits none, or shows nothing there, needs all at once.
"""

import copy
import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tuneflow.metrics.adapters import Accumulated
from tuneflow.metrics.classes import accuracy, top_k
from tuneflow.metrics.measured import vector_of
from tuneflow.metrics.regression import mae
from tuneflow.nested import holds_rows, parts_of
from tuneflow.seeds import seeded_globals
from tuneflow.train.compared_rows import ComparedRows, check_leaves_alone
from tuneflow.train.loss_divisor import CLASSES, IGNORED, divisor, kind_of, reduction_of, setting
from tuneflow.train.random_outputs import Comparison
from tuneflow.train.running_measures import (
    Chunk,
    Function,
    RunningMean,
    RunningMeasure,
    RunningRatio,
    RunningRows,
    RunningUpdates,
)

ALIKE = 3e-5  # relative difference that rounding explains
DIFFERENT = 1e-3  # relative difference of two parts that says something


class Reduction(ABC):
    """A way from chunks to all rows."""

    @abstractmethod
    def start(self, function: Function, total: int) -> RunningMeasure | None:
        """Return the measure of no chunks yet, of at most `total` rows; None if `function` needs all at once."""

    @abstractmethod
    def fits(self, function: Function, comparison: Comparison) -> bool:
        """True if the parts of these rows give their value."""


@dataclass(frozen=True)
class AllRows(Reduction):
    """No reduction: the function needs all rows at once."""

    def start(self, function: Function, total: int) -> None:  # noqa: ARG002
        return None

    def fits(self, function: Function, comparison: Comparison) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True)
class ByUpdates(Reduction):
    """An object that is updated, whose result is by its contract that of all rows."""

    def start(self, function: Function, total: int) -> RunningMeasure:  # noqa: ARG002
        assert isinstance(function, Accumulated)
        return RunningUpdates(function)

    def fits(self, function: Function, comparison: Comparison) -> bool:  # noqa: ARG002
        return isinstance(function, Accumulated)


@dataclass(frozen=True)
class ByRows(Reduction):
    """One number for each row, the same whatever the other rows are."""

    def start(self, function: Function, total: int) -> RunningMeasure:
        return RunningRows(function, total)

    def fits(self, function: Function, comparison: Comparison) -> bool:
        whole, *parts = (_rows(function, chunk) for chunk in (comparison.whole, *comparison.parts))
        scale = max(1e-6, ALIKE * float(whole.abs().mean()))  # a row with less does not change the mean
        return torch.allclose(whole, torch.cat(parts), rtol=ALIKE, atol=scale, equal_nan=True)


@dataclass(frozen=True)
class ByElements(Reduction):
    """A mean loss with a form for each element: the sum of these over the number that counts."""

    def start(self, function: Function, total: int) -> RunningMeasure:
        single = per_element(function)
        if single is None:
            raise TypeError("the loss has no form for each element")
        return RunningRatio(partial(per_row, single, function), total)

    def fits(self, function: Function, comparison: Comparison) -> bool:
        running = self.start(function, comparison.whole.rows)
        for part in comparison.parts:
            running.add(part)
        return alike(running.measured().value, _number(function, comparison.whole))


@dataclass(frozen=True)
class Weight:
    """The weight of a chunk: its rows, what its loss divides by, or a count over a tensor of the chunk.

    Args:
        kind: "rows", "divisor", "counted" for elements that are not `ignored`, "above" for those that are larger, or
            "sum".
        index: of the tensor among those of targets, inputs and outputs that have rows.
        ignored: the value that does not count.
        first: the position from which on a row counts; 1 where the first token predicts and is not predicted.
    """

    kind: str
    index: int = 0
    ignored: int = IGNORED
    first: int = 0

    def of(self, function: Function, chunk: Chunk) -> float | Tensor:
        if self.kind == "rows":
            return float(chunk.rows)
        if self.kind == "divisor":
            return divisor(function, chunk.targets)
        tensor = tensors_with_rows(chunk)[self.index]
        tensor = tensor[:, self.first :] if self.first else tensor
        if self.kind == "sum":
            return tensor.sum()
        return (tensor > self.ignored if self.kind == "above" else tensor != self.ignored).sum()


@dataclass(frozen=True)
class ByMean(Reduction):
    """A single number that is a mean, or a sum, over what `weight` counts."""

    weight: Weight
    summed: bool = False

    def start(self, function: Function, total: int) -> RunningMeasure:  # noqa: ARG002
        return RunningMean(
            lambda chunk: function(chunk.outputs, chunk.targets), partial(self.weight.of, function), self.summed
        )

    def fits(self, function: Function, comparison: Comparison) -> bool:
        weights = [float(self.weight.of(function, part)) for part in comparison.parts]
        total = 1.0 if self.summed else sum(weights)
        shares = [1.0 if self.summed else weight / total for weight in weights] if total else []
        values = [_number(function, part) if share else 0.0 for part, share in zip(comparison.parts, shares)]
        mean = sum(value * share for value, share in zip(values, shares))
        scale = max(map(abs, values), default=0.0)
        return bool(shares) and alike(mean, _number(function, comparison.whole), scale)


def reduction_for(function: Any, rows: ComparedRows) -> Reduction:
    """Return the reduction of a loss or metric.

    Args:
        function: of (outputs, targets).
        rows: to try out functions that are not known by name.

    Raises:
        TypeError: it changes outputs or targets in place.
    """
    if isinstance(function, Accumulated):
        return ByUpdates()
    if function in (accuracy, mae) or (isinstance(function, partial) and function.func is top_k(1).func):  # type: ignore[attr-defined]
        return ByRows()
    if kind_of(function) is not None and reduction_of(function) == "mean" and per_element(function) is not None:
        return ByElements()
    with seeded_globals("reduction"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        own = _on_cpu(function)
        check_leaves_alone(own, rows.few)
        reduction = tried(own, list(rows.comparisons()))
        return reduction if _fits_large(reduction, own, rows.large_comparisons()) else AllRows()


def tried(function: Function, comparisons: Sequence[Comparison]) -> Reduction:
    """Return the first reduction that fits all comparisons that say something, `AllRows` where fewer than two do."""
    telling = [comparison for comparison in comparisons if _tells(function, comparison)]
    if len(telling) < 2 or not _repeats(function, telling[0].whole):
        return AllRows()
    clear = [comparison for comparison in comparisons if _works(function, comparison)]
    for reduction in candidates(function, telling[0].whole):
        if all(_fits(reduction, function, comparison) for comparison in clear):
            return reduction
    return AllRows()


def _fits_large(reduction: Reduction, function: Function, comparisons: Iterable[Comparison]) -> bool:
    """True if many rows are like few: `min(100, rows)` and a share of the rows that is rounded are not."""
    return isinstance(reduction, AllRows) or all(
        _fits(reduction, function, each) for each in comparisons if _works(function, each)
    )


def candidates(function: Function, chunk: Chunk) -> list[Reduction]:
    """Return the reductions to try, the more special ones first: what fits where nothing is ignored may fit by luck."""
    if vector_of(function(chunk.outputs, chunk.targets)) is not None:
        return [ByRows()]
    elements: list[Reduction] = [ByElements()] if per_element(function) is not None else []
    tensors = tensors_with_rows(chunk)[:8]
    whole = [index for index, tensor in enumerate(tensors) if not tensor.is_floating_point()]
    weights = [
        Weight("divisor"),
        *(Weight("counted", index) for index in whole),
        *(Weight("counted", index, first=1) for index in whole if tensors[index].ndim > 1),
        Weight("rows"),
        *(Weight("counted", index) for index in range(len(tensors)) if index not in whole),
        *(Weight("counted", index, ignored) for ignored in (0, -1, 255) for index in whole),
        *(Weight("above", index, ignored) for ignored in (-1, 0) for index in whole),
        *(Weight("sum", index) for index in range(len(tensors))),
    ]
    return [*elements, *map(ByMean, weights), ByMean(Weight("rows"), summed=True)]


def per_element(loss: Any) -> Function | None:
    """Return a mean loss with reduction="none"; None where it has no such form."""
    if isinstance(loss, partial) and isinstance(getattr(loss.func, "reduction", None), str):
        inner = per_element(loss.func)
        return None if inner is None else partial(inner, *loss.args, **loss.keywords)
    if isinstance(getattr(loss, "reduction", None), str):
        if loss.reduction != "mean":
            return None
        single = copy.copy(loss)
        single.reduction = "none"
        return single  # type: ignore[no-any-return]
    try:
        argument = inspect.signature(loss).parameters.get("reduction")
    except (TypeError, ValueError):
        return None
    return partial(loss, reduction="none") if argument is not None and argument.default == "mean" else None


def per_row(single: Function, loss: Any, outputs: Any, targets: Any, rows: int) -> tuple[Tensor, Tensor]:
    """Return the sum of each row's elements of a loss, and the row's part of what the mean is divided by.

    Args:
        single: the loss with reduction="none".
        loss: read for class weights and an ignored class.
        outputs: of the rows.
        targets: of the rows.
        rows: their number.
    """
    each = single(outputs, targets)
    return each.reshape(rows, -1).sum(1), divisors_of(loss, each, targets, rows)


def divisors_of(loss: Any, each: Tensor, targets: Any, rows: int) -> Tensor:
    """Return each row's number of elements that count, or their class weights, shape (rows,).

    Args:
        loss: read for class weights and an ignored class.
        each: its elements: shape (rows, ...).
        targets: of the rows.
        rows: their number.
    """
    kind = kind_of(loss)
    ignored = setting(loss, "ignore_index")
    numbered = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.shape == each.shape
    if not numbered or (kind not in CLASSES and not isinstance(ignored, int)):
        return each.new_full((rows,), each.numel() / rows)
    counted = targets != (IGNORED if ignored is None else ignored)
    weight = setting(loss, "weight") if kind in CLASSES else None
    shares: Tensor = counted.to(each.dtype) if weight is None else weight[torch.where(counted, targets, 0)] * counted
    return shares.reshape(rows, -1).sum(1)


def tensors_with_rows(chunk: Chunk) -> list[Tensor]:
    """Return the tensors of targets and inputs, and those of the outputs that are no floats, that have rows."""
    outputs = [tensor for tensor in _with_rows(chunk.outputs, chunk.rows) if not tensor.is_floating_point()]
    return [*_with_rows(chunk.targets, chunk.rows), *_with_rows(chunk.inputs, chunk.rows), *outputs]


def alike(one: float, other: float, scale: float = 0.0) -> bool:
    """True if two numbers differ by rounding only; `scale` is that of what they were computed from."""
    return math.isclose(one, other, rel_tol=ALIKE, abs_tol=max(1e-9, ALIKE * scale))


def _with_rows(tree: Any, rows: int) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree] if tree.ndim and len(tree) == rows and not tree.is_complex() else []
    if holds_rows(tree, rows):
        return []
    return [tensor for part in (parts_of(tree) or {}).values() for tensor in _with_rows(part, rows)]


def _on_cpu(function: Any) -> Any:
    return copy.deepcopy(function).cpu() if isinstance(function, nn.Module) else function


def _rows(function: Function, chunk: Chunk) -> Tensor:
    vector = vector_of(function(chunk.outputs, chunk.targets))
    if vector is None and chunk.rows == 1:
        vector = torch.tensor([_number(function, chunk)])
    if vector is None or len(vector) != chunk.rows:
        raise TypeError("not one number per row")
    return vector.double()


def _number(function: Function, chunk: Chunk) -> float:
    return float(function(chunk.outputs, chunk.targets))


def _works(function: Function, comparison: Comparison) -> bool:
    """True if the function gives finite values for the rows and for both parts."""
    try:
        results = [function(chunk.outputs, chunk.targets) for chunk in (comparison.whole, *comparison.parts)]
        return all(bool(torch.as_tensor(_flat(result)).isfinite().all()) for result in results)
    except Exception:
        return False


def _tells(function: Function, comparison: Comparison) -> bool:
    """True if the function works and its values differ between the parts, or between rows."""
    if not _works(function, comparison):
        return False
    values = torch.cat([_flat(function(part.outputs, part.targets)) for part in comparison.parts])
    return bool((values.max() - values.min()) > DIFFERENT * values.abs().max())


def _flat(result: Any) -> Tensor:
    vector = vector_of(result)
    return torch.tensor([float(result)], dtype=torch.float64) if vector is None else vector.double()


def _repeats(function: Function, chunk: Chunk) -> bool:
    """True if a second call gives the same: a random metric is no function of outputs and targets."""
    return torch.equal(*(_flat(function(chunk.outputs, chunk.targets)) for _ in range(2)))


def _fits(reduction: Reduction, function: Function, comparison: Comparison) -> bool:
    try:
        return reduction.fits(function, comparison)
    except Exception:
        return False
