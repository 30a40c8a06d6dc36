"""Checks of plain arguments, with one wording: whole numbers, positive numbers, seconds."""

import math
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """True for a finite int or float, NumPy's too; a bool is neither."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def is_whole(value: Any, least: float = 1) -> bool:
    """True for an int of at least `least`, NumPy's too; a bool is none."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def check_whole(name: str, value: Any, least: int = 1, otherwise: str = "") -> int:
    """Return `value` if it is a whole number >= `least`.

    Args:
        name: the argument as the message shows it, such as `Trainer: epochs`.
        value: the argument.
        least: the smallest allowed number.
        otherwise: what leaving the argument out gives, such as `for none`; ends the message.

    Raises:
        ValueError: it is anything else.
    """
    if not is_whole(value, least):
        raise ValueError(f"{name} needs to be a whole number >= {least}, got {value!r}{_way_out(otherwise)}.")
    return int(value)


def check_positive(name: str, value: Any, otherwise: str = "", kind: str = "a number") -> None:
    """Raise ValueError unless `value` is a finite number > 0.

    Args:
        name: the argument as the message shows it, such as `Trainer: clip`.
        value: the argument.
        otherwise: what leaving the argument out gives, such as `for none`; ends the message.
        kind: the number with its unit, such as `a number of seconds`.
    """
    if not is_number(value) or value <= 0:
        raise ValueError(f"{name} needs to be {kind} > 0, got {value!r}{_way_out(otherwise)}.")


def check_seconds(name: str, value: Any) -> float:
    """Return `value` if it is a number of seconds, which may be 0, negative or infinite.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        kind = ValueError if isinstance(value, float) else TypeError
        raise kind(f"{name} needs to be a number of seconds, got {value!r}.")
    return float(value)


def _way_out(otherwise: str) -> str:
    return f"; leave it out {otherwise}" if otherwise else ""
