"""The plan of an evaluation: which reduction each measure has, and the measures under way."""

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from tuneflow.metrics.adapters import Metric
from tuneflow.metrics.measured import Measured, measure
from tuneflow.nested import leaves
from tuneflow.train.compared_rows import ComparedRows
from tuneflow.train.joined_outputs import joined, unjoined
from tuneflow.train.random_outputs import is_random
from tuneflow.train.reductions import AllRows, ByMean, Reduction, Weight, reduction_for
from tuneflow.train.running_measures import Chunk, Function, RunningMean, RunningMeasure

PROBED = 2  # rows that show how large outputs are
OUTPUTS = 2**24  # bytes of outputs, beyond which fewer rows are evaluated at once


@dataclass(frozen=True)
class Measures:
    """The loss and the metrics of a trainer.

    Attributes:
        loss: function of (outputs, targets); None where the loss is computed from module and batch.
        metrics: by name.
    """

    loss: Function | None
    metrics: Mapping[str, Metric]

    @cached_property
    def functions(self) -> dict[str, Function]:
        """All functions of (outputs, targets), by name."""
        return {**({} if self.loss is None else {"loss": self.loss}), **self.metrics}


@dataclass(frozen=True)
class Plan:
    """The way to evaluate a module.

    Attributes:
        row_bytes: size of the outputs of a row.
        reductions: of each function, by name.
    """

    row_bytes: int
    reductions: Mapping[str, Reduction]

    def rows(self, modules: int = 1) -> int:
        """Number of rows whose outputs are computed at once, of so many modules."""
        return max(1, OUTPUTS // max(1, self.row_bytes * modules))


def plan_of(
    measures: Measures,
    few: Callable[[int], Chunk],
    first: Chunk,
    outputs_of: Callable[[Any], Any],
    cache: dict[Any, Any],
) -> Plan:
    """Return the plan for outputs of one kind; what was found out for outputs of these shapes is not tried again.

    Args:
        measures: loss and metrics.
        few: returns some of the first rows of the data, as many as asked or as there are, with outputs.
        first: all of the first rows, without outputs.
        outputs_of: the module's outputs for inputs.
        cache: kept for the trainer.
    """
    probe = few(PROBED)
    size = sum(tensor.nbytes for tensor in leaves(probe.outputs)) // probe.rows
    rows = ComparedRows(few, first, outputs_of, size)
    reductions = {}
    for name, function in measures.functions.items():
        key = ("reduction", name, _key(function), _shapes(probe))
        if key not in cache:
            cache[key] = with_name(name, partial(reduction_for, function, rows))
        reductions[name] = cache[key]
    if isinstance(reductions.get("loss"), AllRows) and not is_random(probe.outputs):
        reductions["loss"] = ByMean(Weight("rows"))  # its outputs cannot be joined
    return Plan(size, reductions)


class RunningEvaluation:
    """Loss and metrics of the chunks so far.

    Args:
        measures: loss and metrics.
        reductions: of each function, by name.
        total: number of rows, at most.
        kept: bytes of outputs to keep although no function needs all rows.
    """

    def __init__(self, measures: Measures, reductions: Mapping[str, Reduction], total: int, kept: int = 0) -> None:
        self._measures = measures
        self.running: dict[str, RunningMeasure] = {}
        self._all: list[str] = []
        for name, function in measures.functions.items():
            running = reductions[name].start(function, total)
            if running is None:
                self._all.append(name)
            else:
                self.running[name] = running
        self._own = RunningMean(lambda _: None, lambda chunk: float(chunk.rows))
        self._room = kept
        self._chunks: list[Chunk] = []

    def add(self, chunk: Chunk, loss: Tensor | None = None, done: tuple[str, ...] = ()) -> None:
        """Take note of a chunk.

        Args:
            chunk: rows with the module's outputs.
            loss: a trainer's own loss of these rows.
            done: measures that have taken note of them already.
        """
        if loss is not None:
            self._own.add_value(loss, float(chunk.rows))
        for name, running in self.running.items():
            if name not in done:
                with_name(name, partial(running.add, chunk))
        self._room -= sum(tensor.nbytes for tensor in leaves(chunk.outputs)) if self._room > 0 else 0
        if self._all or self._room > 0:
            self._chunks.append(chunk._replace(inputs=None))
        elif self._chunks:
            self._chunks.clear()  # too much to keep

    def measured(self) -> dict[str, Measured]:
        """Return loss and metrics over all rows.

        Raises:
            TypeError: a metric returned no number, or needs all rows at once where outputs cannot be joined.
        """
        measured = {} if self._measures.loss is not None or not self._own.count else {"loss": self._own.measured()}
        whole = self.joined() if self._all else None
        for name, function in self._measures.functions.items():
            if name in self.running:
                measured[name] = with_name(name, self.running[name].measured)
            elif whole is not None:
                measured[name] = with_name(name, partial(self._of_all, name, function, whole))
        return measured

    def joined(self) -> Chunk | None:
        """Return all rows as one chunk; None if they were not kept."""
        if not self._chunks:
            return None
        counts = [chunk.rows for chunk in self._chunks]
        outputs = joined([chunk.outputs for chunk in self._chunks], counts)
        targets = joined([chunk.targets for chunk in self._chunks], counts, "targets")
        return Chunk(None, targets, outputs, sum(counts))

    def _of_all(self, name: str, function: Function, whole: Chunk) -> Measured:
        places = unjoined((whole.outputs, whole.targets))
        try:
            return measure(function(whole.outputs, whole.targets), whole.rows)
        except Exception:
            if not places:
                raise
            if name != "loss":
                raise TypeError(
                    f"needs all rows at once, but {places[0].reason}; return one number per example, shape (n,), or"
                    " the mean over what counts."
                ) from None
        mean = ByMean(Weight("rows")).start(function, whole.rows)
        for chunk in self._chunks:
            mean.add(chunk)
        return mean.measured()


def with_name(name: str, compute: Callable[[], Any]) -> Any:
    """Return what `compute` returns; an error of it names the metric."""
    what = "loss" if name == "loss" else f'metric "{name}"'
    try:
        return compute()
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    except Exception as error:
        error.add_note(what)
        raise


def _key(value: Any, depth: int = 8) -> Hashable:
    """Return what tells functions apart that may have other reductions: code and settings, of tensors only the shape.

    The numbers of torch's own losses do not count, as an amount of label smoothing.
    """
    if value is None or isinstance(value, str | int | float | bool | type) or inspect.isroutine(value):
        plain: Hashable = value
        return plain
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if not depth:
        return type(value).__qualname__
    if isinstance(value, list | tuple):
        return tuple(_key(part, depth - 1) for part in value)
    if isinstance(value, dict):
        return tuple((key, _key(part, depth - 1)) for key, part in value.items())
    settings: Any = getattr(value, "__dict__", {})
    if isinstance(value, partial):
        settings = (value.func, value.args, value.keywords)
    elif type(value).__module__ == "torch.nn.modules.loss":
        settings = {name: setting for name, setting in settings.items() if not isinstance(setting, float)}
    return f"{type(value).__module__}.{type(value).__qualname__}", _key(settings, depth - 1)


def _shapes(probe: Chunk) -> Hashable:
    return tuple((tensor.shape[1:], tensor.dtype) for part in (probe.targets, probe.outputs) for tensor in leaves(part))
