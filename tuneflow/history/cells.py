"""Cells of tables in notebooks: scores with their errors, configurations, reasons."""

import math
from collections.abc import Mapping
from typing import Any

from tuneflow.metrics.measured import rounded_text
from tuneflow.space.values import rounded

LONGEST = 100  # characters of a reason


def score_cell(metric: str, metrics: Mapping[str, float], errors: Mapping[str, float]) -> str:
    """Return a metric rounded to its error, with that; "-" where it was not measured."""
    return rounded_text(metrics[metric], errors.get(metric, math.nan)) if metric in metrics else "-"


def settings_cell(config: Mapping[str, Any]) -> str:
    """Return a configuration in one line.

    Example:
        >>> settings_cell({"model": {"width": 16}, "optimizer": {"sgd": {"lr": 0.0123456}}})
        'model.width 16, optimizer.sgd.lr 0.01235'
    """
    return ", ".join(f"{name} {value}" for name, value in settings_rows(config))


def settings_rows(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a configuration as dotted names with their values."""
    return _leaves("", rounded(dict(config)))


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or (not value and name):
        return [(name, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(f"{name}.{key}" if name else str(key), inner)]


def reason_cell(reason: str) -> str:
    """Return a reason, cut where it is long."""
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
