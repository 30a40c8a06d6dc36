"""Metrics that user code reports, as floats by name."""

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from tuneflow.metrics.measured import Measured
from tuneflow.validate import shown


def number_of(value: Any) -> float | None:
    """Return `value` as a float if it is one real number: Python's, NumPy's, or a tensor of one element; else None."""
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        return None if value.numel() != 1 or value.is_complex() else float(value.detach().item())
    if isinstance(value, np.ndarray | np.generic):
        return float(value.item()) if value.size == 1 and value.dtype.kind in "biuf" else None
    return _as_float(value) if isinstance(value, numbers.Real) else None


def _as_float(value: Any) -> float:
    """Return a real number as a float; one that is too large for it is infinite, as in NumPy."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class ReportedMetrics(NamedTuple):
    """Metrics as floats by name.

    Attributes:
        metrics: name to value.
        errors: name to standard error, of those that were reported with one.
    """

    metrics: dict[str, float]
    errors: dict[str, float]


def numbers_of(reported: Any, what: str) -> ReportedMetrics:
    """Return the reported dict with every value as a float, and the standard errors of those that come with one.

    A value that is not finite has no error, whatever came with it.

    Args:
        reported: names to numbers, or to pairs (value, standard error).
        what: opens the message, such as `loop train_mine, epoch 2`.

    Raises:
        TypeError: it is not a dict of those, or is empty; the message names the key.
        ValueError: a standard error is negative or not finite.
    """
    if not isinstance(reported, Mapping) or not reported:
        raise TypeError(f'{what}: needs a dict of numbers such as {{"loss": 0.3}}, got {described(reported)}.')
    metrics, errors = {}, {}
    for name, value in reported.items():
        if not isinstance(name, str):
            raise TypeError(f"{what}: names of metrics are strings, got {name!r}.")
        number, error = _parted(value)
        metric = number_of(number)
        if metric is None:
            raise TypeError(
                f'{what}: "{name}" needs to be one number, got {described(value)}; reduce it to a number, give each'
                " part a name of its own, or report a pair (value, standard error)."
            )
        metrics[name] = metric
        if error is not None and math.isfinite(metric):
            errors[name] = error_of(error, f'{what}: "{name}"')
    return ReportedMetrics(metrics, errors)


def error_of(error: Any, what: str) -> float:
    """Return a standard error as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or not finite.
    """
    number = None if isinstance(error, bool) else number_of(error)
    if number is None:
        raise TypeError(f"{what} needs a number as its standard error, got {described(error)}.")
    if not 0 <= number < math.inf:
        raise ValueError(
            f"{what} needs a standard error >= 0, got {number:g}; leave the error out where it is not known."
        )
    return number


def is_pair(value: Any) -> bool:
    """True for a value together with its standard error."""
    return isinstance(value, tuple) and len(value) == 2


def _parted(value: Any) -> tuple[Any, Any]:
    """Return a reported value and its standard error, None where it has none."""
    if isinstance(value, Measured):
        return value.value, None if math.isnan(value.error) else value.error
    return value if is_pair(value) else (value, None)


def measured_of(returned: Any) -> dict[str, Measured]:
    """Return what a trainer's `evaluate` returned, plain numbers as values without an error.

    Args:
        returned: names to numbers, pairs (value, standard error) or Measured.

    Raises:
        TypeError: it is not a dict of those.
    """
    if isinstance(returned, Mapping) and all(isinstance(value, Measured) for value in returned.values()):
        return dict(returned)
    plain = {}
    if isinstance(returned, Mapping):
        plain = {name: value for name, value in returned.items() if not isinstance(value, Measured)}
    values, errors = numbers_of(plain or returned, "evaluate")
    measured = {name: Measured(value, errors.get(name, math.nan)) for name, value in values.items()}
    return {name: measured.get(name, returned[name]) for name in returned}


def described(value: Any) -> str:
    """Describe a value for a message: tensors and arrays by their shape, long values by their type."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = shown(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
