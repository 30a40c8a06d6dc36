"""The decisions of a model's steps, on the training rows of a job."""

import copy
from collections.abc import Callable, Iterator
from itertools import islice

from torch import Tensor, nn

from tuneflow.compress.operations import Operation, apply_all
from tuneflow.compress.step import StepRows, operations_by
from tuneflow.data.data import Batch
from tuneflow.heuristics.target_scaling import Scale, completed
from tuneflow.model import Model
from tuneflow.train.job import Job


def decided_recipe(model: Model, job: Job, module: nn.Module, rows: Callable[[], StepRows]) -> list[Operation]:
    """Return the operations that the steps of a model decide on, each on the module that those before leave.

    Args:
        model: has the steps.
        job: its configuration and its randomness.
        module: as it is made; it is left as it was.
        rows: returns the training rows.

    Raises:
        Exception: one that a step raised, with a note of its name.
        ValueError: several steps choose an arithmetic.
    """
    operations: list[Operation] = []
    if not model.steps:
        return operations
    module = copy.deepcopy(module).eval()
    with job.at_work("steps", 0):
        for name, step in model.steps_for(job.config):
            try:
                new = operations_by(step, copy.deepcopy(module), rows())
                apply_all(new, module)
            except Exception as error:
                error.add_note(f'step "{name}"')
                raise
            operations += new
    if sum(each.converts for each in operations) > 1:
        raise ValueError("of a model's steps one may choose the arithmetic, got several; leave one Arithmetic.")
    return operations


def step_rows(
    batches: Callable[[int], Iterator[Batch]], loss_of: Callable[[nn.Module, Batch], Tensor], scale: Scale | None
) -> StepRows:
    """Return training rows as steps see them.

    Args:
        batches: yields batches of a size, as the module takes them.
        loss_of: the training loss, of a module whose outputs are in the targets' units.
        scale: of the targets, which the module has learned; None without one.
    """
    return StepRows(
        next(batches(2))[0],
        lambda size, count: islice(batches(size), count),
        lambda module, batch: loss_of(completed(module, None, scale), batch),
    )
