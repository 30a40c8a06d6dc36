"""Scores of a training loop's model on other data, by the loop's own test function."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tuneflow.metrics.measured import Measured, mean_of, vector_of
from tuneflow.signature import name_of
from tuneflow.train.job import Job
from tuneflow.train.reported_metrics import numbers_of

TestFunction = Callable[[nn.Module, Any], Mapping[str, Any]]


def scores_of(function: TestFunction, job: Job, module: nn.Module, data: Any) -> dict[str, Measured]:
    """Return the scores of a trained module by name; one number per example becomes their mean with its error.

    Args:
        function: of (module, data); returns names to numbers, to pairs (value, standard error), or to one number per
            example, shape (n,). It is called without gradients, in the runtime's precision.
        job: the one that the module was trained for; gives the runtime, and seeds the global generators.
        module: in evaluation mode.
        data: passed on as it is.

    Raises:
        TypeError: the function returned something else; the message names it.
    """
    with job.at_work("test", 0), torch.no_grad(), job.runtime.autocast():
        returned = function(module, data)
    each = {name: _vector(value) for name, value in returned.items()} if isinstance(returned, Mapping) else {}
    several = {name: mean_of(vector) for name, vector in each.items() if vector is not None}
    plain = {name: value for name, value in returned.items() if name not in several} if several else returned
    if several and not plain:
        return several
    values, errors = numbers_of(plain, f"test={name_of(function)}")
    single = {name: Measured(value, errors.get(name, math.nan)) for name, value in values.items()}
    return {name: several[name] if name in several else single[name] for name in returned}


def _vector(value: Any) -> torch.Tensor | None:
    """Return one number per example as a tensor; None for anything else, among it a pair with a standard error."""
    return None if isinstance(value, tuple) else vector_of(value)
