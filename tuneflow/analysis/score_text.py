"""Scores as text: numbers with their errors, the settings of a trial, and tables with aligned columns."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tuneflow.errors import listed, plural
from tuneflow.errors import printable as printable  # here too, among its kin
from tuneflow.metrics.measured import LARGE, Estimate, number_text
from tuneflow.metrics.measured import rounded_text as rounded_text  # here too, among its kin
from tuneflow.space.values import rounded


def value_text(metric: str, metrics: Mapping[str, float], errors: Mapping[str, float]) -> str:
    """Return a metric's value as text, with its standard error unless that is 0; "-" where it was not measured."""
    if metric not in metrics:
        return "-"
    value, error = metrics[metric], errors.get(metric, 0.0)
    if not error:
        return number_text(value)
    whole = abs(value) >= LARGE and error >= 1
    return f"{number_text(value)} +- {f'{error:,.0f}' if whole else number_text(error)}"


def score_of(metric: str, metrics: Mapping[str, float], errors: Mapping[str, float]) -> str:
    """Return a metric with its name and its standard error, as text."""
    return f"{metric} {value_text(metric, metrics, errors)}" if metric in metrics else f"no {metric}"


def error_of(metrics: Iterable[str], errors: Mapping[str, float]) -> str:
    """Return the meaning of a number after `+-` where one of the metrics has one; else an empty string."""
    return "standard error" if any(errors.get(name) for name in metrics) else ""


def settings_text(config: Mapping[str, Any], steps: Iterable[str] = ()) -> str:
    """Return a configuration as text: the sections of a model's steps in short and in order, then the others.

    Example:
        >>> settings_text({"narrow": {"macs": 4.125, "by": "obd"}, "optimizer": {"lr": 0.1}}, ["narrow", "low_rank"])
        "narrow macs 4.125 by obd, low_rank; {'optimizer': {'lr': 0.1}}"
    """
    steps = list(steps)
    short = ", ".join(" ".join([name, *_words(config.get(name, {}))]) for name in steps)
    others = rounded({name: section for name, section in config.items() if name not in steps})
    return "; ".join(filter(None, [short, str(others) if others or not steps else ""]))


def _words(value: Any) -> list[str]:
    """Return settings as words: a name with its value, the name alone of what is on, nothing of what is off."""
    if not isinstance(value, Mapping):
        return [str(rounded(value))]
    words = []
    for name, inner in value.items():
        if inner is not False and inner is not None:
            words += [str(name), *([] if inner is True else _words(inner))]
    return words


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells, the head first, as lines with aligned columns; cells are made printable."""
    rows = [[printable(cell) for cell in row] for row in rows]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]


def interval_note(estimates: Collection[tuple[str, Estimate]], word: str) -> list[str]:
    """Return a line on what intervals are over, or none: examples, and for a latency its own measurement.

    Args:
        estimates: name and value of each metric.
        word: "interval" or "intervals".
    """
    examples = max((one.examples for _, one in estimates), default=0)
    own = dict.fromkeys(name for name, one in estimates if not one.examples and one.low < one.high)
    others = f"; of {listed(own)} by the metric's own error" if own else ""
    return [f"[95 % {word} over {plural(examples, 'example')}{others}]"] if examples else []
