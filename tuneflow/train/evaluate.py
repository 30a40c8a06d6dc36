"""Evaluation in chunks of rows, whose size does not show in the result, and whose outputs are not kept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from tuneflow.data.data import Data
from tuneflow.data.sources import Source
from tuneflow.heuristics.unchanged import looked_at
from tuneflow.metrics.bootstrap import resampled
from tuneflow.metrics.measured import Measured
from tuneflow.nested import mapped, row_count, rows_taken
from tuneflow.runtime.precision import LOWERED
from tuneflow.seeds import seeded_globals
from tuneflow.train.captured_outputs import loss_and_outputs
from tuneflow.train.evaluated_loss import evaluated
from tuneflow.train.evaluation_plan import Measures, Plan, RunningEvaluation, plan_of
from tuneflow.train.preparation import DeviceData
from tuneflow.train.running_measures import Chunk

CHUNK = 3 * 2**18  # bytes of inputs evaluated at once, within 32 to 1,024 rows: more falls out of the cache
KEPT = 2**28  # bytes of outputs that a test keeps for its intervals
GROUPS = 50  # chunks of a test, from whose differences the standard error of a mean comes

Plans = WeakKeyDictionary[nn.Module, tuple[Any, Plan]]


class Evaluator:
    """Evaluates modules by the loss and metrics of a trainer.

    Args:
        measures: loss and metrics.
        cache: keeps what is found out about them; one dict for each trainer.
        loss_of: a trainer's own loss of (module, batch), where it has one.
    """

    def __init__(self, measures: Measures, cache: dict[Any, Any], loss_of: Callable[..., Any] | None = None) -> None:
        self.measures, self._cache = measures, cache
        self._loss_of = None if loss_of is None else evaluated(loss_of)

    def evaluate(
        self, module: nn.Module, data: DeviceData | Source, size: int | None = None, intervals: bool = False
    ) -> dict[str, Measured]:
        """Return loss and metrics over all rows.

        Args:
            module: gives outputs in the targets' units.
            data: inputs as the module takes them, and targets.
            size: rows to load at once; by default as many as fit the cache.
            intervals: measure the error of every value, by groups of rows or a bootstrap, for a test.
        """
        size = size or chunk_of(data)
        try:
            return self._evaluated(module, data, size, intervals)
        except Exception:
            with suppress(Exception):  # a module may need its batches whole, as one that pads to the longest row
                return self._evaluated(module, data, size, intervals, apart=False)
            raise

    def _evaluated(
        self, module: nn.Module, data: DeviceData | Source, size: int, intervals: bool, apart: bool = True
    ) -> dict[str, Measured]:
        """Return loss and metrics; without `apart` of whole batches, as far as their outputs fit into memory."""
        run: RunningEvaluation | None = None
        rows, total = 0, len(data)
        for inputs, targets, count in loaded(data, size):
            if run is None:
                plan = self.plan(module, data, Chunk(inputs, targets, None, count))
                run = RunningEvaluation(self.measures, plan.reductions, total, KEPT if intervals else 0)
                rows = plan.rows() if apart else max(1, KEPT // max(1, plan.row_bytes))
                rows = min(rows, max(1, total // GROUPS)) if intervals and apart else rows
            for part in split((inputs, targets), count, rows):
                self._add(run, module, data, *part)
        assert run is not None  # data have at least one row
        with in_float32(data):
            measured = run.measured()
            return resampled_where_unknown(self.measures, run, measured) if intervals else measured

    def plan(self, module: nn.Module, data: DeviceData | Source, first: Chunk) -> Plan:
        """Return the plan for `module` from its outputs for a few rows; it is kept as long as the module lives.

        Args:
            module: in evaluation mode.
            data: all rows.
            first: some of them, without outputs.
        """
        plans: Plans = self._cache.setdefault("plans", WeakKeyDictionary())
        kept = plans.get(module)
        if kept is None or kept[0] is not data:
            with seeded_globals("plan"), looked_at(module):  # neither draws nor buffers may show it
                kept = plans[module] = (data, self._plan(module, data, first))
        return kept[1]

    def _plan(self, module: nn.Module, data: DeviceData | Source, first: Chunk) -> Plan:
        def outputs_of(inputs: Any) -> Any:
            return in_single_precision(module(inputs), data)

        def some(count: int) -> Chunk:
            count = min(count, first.rows)
            step = first.rows // count  # apart, since neighbors may be sorted by length
            rows = slice(0, step * count, step)
            inputs, targets = (rows_taken(part, rows, first.rows) for part in (first.inputs, first.targets))
            try:
                return Chunk(inputs, targets, outputs_of(inputs), count)
            except Exception:  # a module may not take some rows of a batch
                return first._replace(outputs=outputs_of(first.inputs))

        with in_float32(data):
            return plan_of(self.measures, some, first, outputs_of, self._cache)

    def _add(
        self, run: RunningEvaluation, module: nn.Module, data: DeviceData | Source, inputs: Any, targets: Any, rows: int
    ) -> None:
        if self._loss_of is None:
            loss, outputs = None, module(inputs)
        else:
            loss, outputs = loss_and_outputs(self._loss_of, module, (inputs, targets), bool(self.measures.metrics))
        with in_float32(data):
            run.add(Chunk(inputs, targets, in_single_precision(outputs, data), rows), loss)


def loaded(data: DeviceData | Source, size: int) -> Iterator[tuple[Any, Any, int]]:
    """Yield inputs, targets and number of rows of each batch that `data` gives."""
    total = len(data)
    for number, (inputs, targets) in enumerate(data.batches(size)):
        rows, counts = min(size, total - number * size), (row_count(inputs), row_count(targets))
        yield inputs, targets, rows if rows in counts else counts[0] or counts[1]  # a collate_fn may drop rows


def split(batch: tuple[Any, Any], count: int, size: int) -> Iterator[tuple[Any, Any, int]]:
    """Yield inputs, targets and number of rows of parts of a batch of `count` rows, `size` at a time."""
    if size >= count:
        yield (*batch, count)
        return
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        inputs, targets = (rows_taken(part, rows, count) for part in batch)
        yield inputs, targets, rows.stop - rows.start


def in_float32(data: DeviceData | Source) -> AbstractContextManager[Any]:
    """A block without the precision of the runtime that `data` is for."""
    return data.runtime.autocast(on=False) if isinstance(data, DeviceData) else nullcontext()


def in_single_precision(outputs: Any, data: DeviceData | Source) -> Any:
    """Return outputs that a lower precision left in 16 bits as float32."""
    if not isinstance(data, DeviceData) or data.runtime.precision == "fp32":
        return outputs
    return mapped(lambda tensor: tensor.float() if tensor.dtype in LOWERED else tensor, outputs)


def resampled_where_unknown(
    measures: Measures, run: RunningEvaluation, measured: Mapping[str, Measured]
) -> dict[str, Measured]:
    """Return measured values, those without an error with one from a bootstrap over the rows that were kept."""
    whole = run.joined()
    if whole is None:
        return dict(measured)
    return {
        name: value if value.error == value.error or name not in measures.functions
        else resampled(measures.functions[name], whole.outputs, whole.targets, whole.rows, value)
        for name, value in measured.items()
    }  # fmt: skip


def chunk_of(data: DeviceData | Source) -> int:
    """Number of rows to load at once: as many as fit into the cache, from 32 to 1,024."""
    source = data.source if isinstance(data, DeviceData) else data
    per_row = source.nbytes // len(source) if isinstance(source, Data) else 2**14
    return min(1024, max(32, CHUNK // max(1, per_row)))
