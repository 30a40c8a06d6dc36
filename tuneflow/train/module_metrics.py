"""Metrics of the module itself, in a Trainer's `metrics=` beside those of outputs: which they are, and their values."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from tuneflow.compress.winner import copied_module
from tuneflow.metrics.measured import Measured
from tuneflow.train.description import description_of
from tuneflow.train.evaluation_plan import with_name
from tuneflow.train.job import Job
from tuneflow.train.reported_metrics import described, numbers_of

Metrics = Mapping[str, Any]


def is_of_module(metric: Any) -> bool:
    """True for an object with `of_module(module, data)`."""
    return callable(getattr(metric, "of_module", None))


def of_outputs(metrics: Metrics) -> Metrics:
    """Return the metrics of outputs and targets."""
    return {name: metric for name, metric in metrics.items() if not is_of_module(metric)}


def of_module(metrics: Metrics) -> Metrics:
    """Return the metrics of the module."""
    return {name: metric for name, metric in metrics.items() if is_of_module(metric)}


def of_structure(metrics: Metrics) -> Metrics:
    """Return the metrics of the module that are taken once for each structure."""
    return {name: metric for name, metric in of_module(metrics).items() if _once(metric)}


def of_epoch(metrics: Metrics) -> Metrics:
    """Return the metrics of the module that are computed with every evaluation."""
    return {name: metric for name, metric in of_module(metrics).items() if not _once(metric)}


def _once(metric: Any) -> bool:
    return bool(getattr(metric, "once_per_structure", False))


def take_all(
    job: Job, metrics: Metrics, module: nn.Module, data: Any, reference: nn.Module | None = None
) -> dict[str, Measured]:
    """Return the values of metrics of a module, each under the same random numbers of the job, whatever came before.

    Args:
        job: the one that the module is of.
        metrics: objects with `of_module`, by name.
        module: takes raw inputs, and gives outputs in the targets' units.
        data: raw rows.
        reference: for metrics that compare with one.
    """
    measured = {}
    for name, metric in metrics.items():
        with job.at_work("metrics", 0):
            measured[name] = take(name, metric, module, data, reference)
    return measured


def take(
    name: str, metric: Any, module: nn.Module, data: Any, reference: nn.Module | None = None, unit: float | None = None
) -> Measured:
    """Return the value of a metric of a copy of a module, which it may change; an error of it names the metric.

    Args:
        name: the metric's.
        metric: has `of_module`; with an attribute `compares` it takes `reference` and `unit` too.
        module: takes raw inputs, and gives outputs in the targets' units.
        data: raw rows.
        reference: the module to compare with; None for none.
        unit: the reference's value.
    """
    comparing = reference is not None and getattr(metric, "compares", False)
    named = {"reference": reference, "unit": unit} if comparing else {}
    own = _copied(module)
    return with_name(name, lambda: _measured(metric.of_module(own, data, **named)))  # type: ignore[no-any-return]


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copied_module(module)
    except Exception:  # one that holds a lock, say, cannot be copied, and a metric seldom changes its module
        return module


def _measured(returned: Any) -> Measured:
    if isinstance(returned, Measured):
        return returned
    values, errors = numbers_of({"value": returned}, "of_module")
    return Measured(values["value"], errors.get("value", float("nan")))


def every_of(metric: Any) -> int:
    """Return each how many epochs a metric of the module is computed, as its attribute `every` gives it."""
    return int(getattr(metric, "every", 1))


def words_of(metric: Any) -> str:
    """Return a metric in words, the same in every process, with its `every` where a setting does not name that."""
    words = description_of(metric)
    if not is_of_module(metric) or every_of(metric) == 1 or "every" in getattr(metric, "__dict__", {}):
        return words
    return f"{words}, every {every_of(metric)}"


def of_report(metrics: Metrics, epoch: int, epochs: int, also: Collection[int] = ()) -> Metrics:
    """Return the metrics that the report of an epoch has, of a training of `epochs`: its number alone decides.

    Args:
        metrics: of the module.
        epoch: the epoch's number.
        epochs: the full length.
        also: numbers of further epochs that have all of them.
    """
    whole = epoch == epochs or epoch in also
    return {name: each for name, each in metrics.items() if whole or not epoch % every_of(each)}


def of_test(metrics: Metrics) -> Metrics:
    """Return the metrics that judge a winner: what their methods `for_test` return, themselves without one."""
    return {name: other_form(name, metric, "for_test") for name, metric in metrics.items()}


def reference_of(job: Job) -> nn.Module | None:
    """Return the trained winner that a job's module is made of, complete and on the device; None without one."""
    winner = None if job.model is None else job.model.winner
    if winner is None:
        return None
    return copy.deepcopy(winner.complete).to(job.runtime.device).eval()


def brief(metrics: Metrics) -> Metrics:
    """Return metrics that are to be tried only, with as little repetition as they allow by a method `brief`."""
    return {name: other_form(name, metric, "brief") for name, metric in metrics.items()}


def other_form(name: str, metric: Any, method: str) -> Any:
    """Return the metric that a method of a metric of the module returns; itself where it has none, or is no such one.

    Args:
        name: the metric's.
        metric: of the module, or any other.
        method: "brief" or "for_test".

    Raises:
        TypeError: the method returns no metric of the module.
    """
    if not is_of_module(metric) or not hasattr(metric, method):
        return metric
    other = with_name(name, getattr(metric, method))
    if not is_of_module(other) or isinstance(other, type):
        raise TypeError(
            f'metric "{name}": {method}() needs to return an object with of_module, got {described(other)}.'
        )
    return other
