"""The decisions of a model's steps, on the training rows of a job."""

import copy
from collections.abc import Callable, Iterator
from itertools import islice

from torch import Tensor, nn

from tuneflow.compress.operations import Operation, Sanitize, apply_all
from tuneflow.compress.step import ModelStep, StepRows, operations_by
from tuneflow.data.data import Batch
from tuneflow.errors import listed
from tuneflow.heuristics.target_scaling import Scale, completed
from tuneflow.model import Model
from tuneflow.train.job import Job


def decided_recipe(
    model: Model, job: Job, module: nn.Module, rows: Callable[[], StepRows], sanitizes: bool = False
) -> list[Operation]:
    """Return the operations that the steps of a model decide on, each on the module that those before leave.

    Args:
        model: has the steps.
        job: its configuration and its randomness.
        module: as it is made; it is left as it was.
        rows: returns the training rows.
        sanitizes: True for those that change what stands before the module's inputs, False for all others.

    Raises:
        Exception: one that a step raised, with a note of its name.
        ValueError: several steps choose an arithmetic, or the same kind of sanitizer.
    """
    operations: list[Operation] = []
    steps = [(name, step) for name, step in model.steps_for(job.config) if _sanitizes(step) == sanitizes]
    if not steps:
        return operations
    module = copy.deepcopy(module).eval()
    with job.at_work("steps", 0):
        for name, step in steps:
            try:
                new = operations_by(step, copy.deepcopy(module), rows())
                _check_kind(step, new)
                apply_all(new, module)
            except Exception as error:
                error.add_note(f'step "{name}"')
                raise
            operations += new
    if sum(each.converts for each in operations) > 1:
        raise ValueError("of a model's steps one may choose the arithmetic, got several; leave one Arithmetic.")
    kinds = [each.sanitizer for each in operations if isinstance(each, Sanitize)]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"a model's steps may sanitize by each kind once, got {listed(kinds)}; leave one of each.")
    return operations


def _sanitizes(step: ModelStep) -> bool:
    return bool(getattr(step, "sanitizes", False))


def _check_kind(step: ModelStep, operations: list[Operation]) -> None:
    """Raise TypeError unless all operations sanitize, or none does, as the step's attribute has it."""
    if any(each.sanitizes != _sanitizes(step) for each in operations):
        raise TypeError(
            f"a step whose operations are Sanitize needs the attribute sanitizes = True, and others may not have it;"
            f" got {type(step).__name__} with {listed(sorted({type(each).__name__ for each in operations}))}."
        )


def step_rows(
    batches: Callable[[int], Iterator[Batch]],
    loss_of: Callable[[nn.Module, Batch], Tensor],
    scale: Scale | None,
    box: Callable[[], tuple[float, float]],
    normalizer: nn.Module | None = None,
) -> StepRows:
    """Return training rows as steps see them.

    Args:
        batches: yields batches of a size, as the module takes them.
        loss_of: the training loss, of a module whose outputs are in the targets' units.
        scale: of the targets, which the module has learned; None without one.
        box: returns the range of the raw inputs.
        normalizer: stands between these batches and the module; None for none.
    """
    return StepRows(
        next(batches(2))[0],
        lambda size, count: islice(batches(size), count),
        lambda module, batch: loss_of(completed(module, normalizer, scale), batch),
        box,
    )
