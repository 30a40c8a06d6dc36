"""Evaluation of lanes together: their stacked outputs of a chunk at a time, measured for each as in training alone."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tuneflow.errors import exceptions_only
from tuneflow.execute.lanes.batches import smoothing_of
from tuneflow.execute.lanes.lane import Lane
from tuneflow.metrics.classes import accuracy
from tuneflow.metrics.measured import Measured
from tuneflow.train.evaluation_plan import Plan, RunningEvaluation
from tuneflow.train.reductions import divisors_of, per_element
from tuneflow.train.running_measures import Chunk, RunningRatio, RunningRows


class StackedEvaluation:
    """Loss and metrics of the chunks so far, for each lane.

    Args:
        lanes: by slot; evaluated by functions of outputs and targets.
        plan: of any of them.
        total: number of rows, at most.
    """

    def __init__(self, lanes: Mapping[int, Lane], plan: Plan, total: int) -> None:
        self._lanes = lanes
        self._runs = {
            slot: RunningEvaluation(lane.run.settings.measures, plan.reductions, total) for slot, lane in lanes.items()
        }
        self._errors: dict[int, BaseException] = {}

    def add(self, outputs: Any, chunk: Chunk) -> None:
        """Take note of a chunk.

        Args:
            outputs: of all slots, each tensor (slots, rows, ...).
            chunk: the rows, without outputs.
        """
        done = self._added_together(outputs, chunk)
        for slot, run in self._runs.items():
            if slot in self._errors:
                continue
            try:
                own = pytree.tree_map(lambda stack, slot=slot: stack[slot], outputs)
                run.add(chunk._replace(outputs=own), done=done)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._errors[slot] = error

    def of(self, slot: int) -> dict[str, Measured]:
        """Return loss and metrics of a lane; what its functions raised is raised here."""
        if slot in self._errors:
            raise self._errors[slot]
        with torch.no_grad():
            return self._runs[slot].measured()

    def _added_together(self, outputs: Any, chunk: Chunk) -> tuple[str, ...]:
        """Add what one call computes for all lanes; return its names."""
        if not isinstance(outputs, Tensor) or not isinstance(chunk.targets, Tensor):
            return ()
        done = []
        repeated = chunk.targets.repeat(len(outputs), *[1] * (chunk.targets.ndim - 1))
        measures = next(iter(self._lanes.values())).run.settings.measures
        with suppress(Exception), exceptions_only("a metric"):  # each lane raises it again by itself
            if self._adds_loss(outputs, repeated, chunk):
                done.append("loss")
            for name, metric in measures.metrics.items():
                if metric is accuracy:
                    each = accuracy(outputs.flatten(0, 1), repeated).view(len(outputs), -1)
                    for slot, run in self._runs.items():
                        running = run.running[name]
                        assert isinstance(running, RunningRows)
                        running.add_rows(each[slot])
                    done.append(name)
        return tuple(done)

    def _adds_loss(self, outputs: Tensor, repeated: Tensor, chunk: Chunk) -> bool:
        settings = next(iter(self._lanes.values())).run.settings
        running = {slot: run.running.get("loss") for slot, run in self._runs.items()}
        if smoothing_of(settings) is not None or not all(isinstance(one, RunningRatio) for one in running.values()):
            return False  # the lanes have losses of their own
        single = per_element(settings.loss)
        if single is None:
            return False
        each = single(outputs.flatten(0, 1), repeated)
        each = each.view(len(outputs), chunk.rows, *each.shape[1:])
        sums = each.reshape(*each.shape[:2], -1).sum(2)
        divisors = divisors_of(settings.loss, each[0], chunk.targets, chunk.rows)
        for slot, one in running.items():
            assert isinstance(one, RunningRatio)
            one.add_rows(sums[slot], divisors)
        return True
