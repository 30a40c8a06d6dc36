"""Values: plain data that can be stored, and checks of numbers, names and ranges."""

import json
import math
import numbers
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

from tuneflow.nested import rebuilt
from tuneflow.signature import name_of
from tuneflow.validate import repr_of

EXACT = 2**53  # integers beyond this are not exact as floats


def check_name(name: object, what: str) -> None:
    """Raise unless `name` can name a parameter: 1 to 100 printable characters without a dot."""
    if not isinstance(name, str):
        raise TypeError(f"{what} needs to be a string, got {name!r}.")
    if not name or len(name) > 100 or not name.isprintable() or "." in name or name != name.strip():
        shown = name if len(name) <= 40 else f"{name[:40]}... ({len(name)} characters)"
        raise ValueError(f"{what} needs 1 to 100 printable characters without a dot, got {shown!r}.")


def check_bounds(what: str, low: Any, high: Any, log: bool, step: Any, tiny: str) -> tuple[float, float]:
    """Return the bounds of a range as floats; `tiny` is the suggestion for a low of 0 under log."""
    bottom, top = number_of(what, "low", low), number_of(what, "high", high)
    if bottom > top:
        raise ValueError(f"{what}: needs low <= high, got low={low}, high={high}; swap them.")
    if log and bottom <= 0:
        raise ValueError(f"{what}: log=True needs low > 0, got low={low}; try low={tiny} or drop log.")
    if log and step is not None:
        raise ValueError(f"{what}: log=True and step={step} exclude each other; drop one of them.")
    return bottom, top


def number_of(what: str, word: str, value: Any) -> float:
    """Return `value` as a float, or raise an error that names `word` where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what}: {word} needs to be a number, got {word}={value!r}.")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"{what}: {word} needs to be finite, got {word}={value}; choose a bound.")
    return float(value)


def real(value: Any) -> float | None:
    """Return `value` as a float where it is a finite number (NumPy's and torch's scalars too), else None."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, bool | str | bytes) or "bool" in str(getattr(value, "dtype", type(value).__name__)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def cell(unit: float, count: float) -> int:
    """Return the index of the cell that `unit` lies in, of `count` cells of equal length."""
    return min(int(unit * count), int(count) - 1)


def stepped(low: float, count: int, step: float) -> float:
    """Return low + count * step in decimal arithmetic: 0.3, not 0.30000000000000004."""
    return float(Decimal(repr(low)) + count * Decimal(repr(step)))


def tidy(value: float) -> float:
    """Return `value` rounded to 12 digits."""
    return float(f"{value:.12g}")


def spread(count: int, points: int) -> list[int]:
    """Return at most `points` of range(count), evenly spread, with both ends; the middle for one point."""
    if points >= count:
        return list(range(count))
    if points == 1:
        return [(count - 1) // 2]
    return [round(i * (count - 1) / (points - 1)) for i in range(points)]


def rounded(value: Any) -> Any:
    """Return nested values with floats rounded to four digits, for messages."""
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(rounded, value))
    return float(f"{value:.4g}") if isinstance(value, float) else value


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: tuples as lists, NumPy scalars as Python's."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.item() if getattr(value, "ndim", None) == 0 else value


def bare(value: Any) -> Any:
    """Return `value` without NumPy's and torch's scalars; tuples stay."""
    if isinstance(value, list | tuple):
        return rebuilt(value, dict(enumerate(map(bare, value))))
    return plain(value) if not isinstance(value, dict) else {k: bare(v) for k, v in value.items()}


def key_of(value: Any) -> str:
    """Return a key that is equal for values that mean the same option: 1 and 1.0, (3, 3) and [3, 3]; not 1 and True."""
    value = plain(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        value = int(value)
    return json.dumps(value, sort_keys=True)


def check_plain(what: str, place: int | None, value: Any) -> None:
    """Raise unless `value` can be stored as JSON; `place` is its position in a list of options."""
    where = "" if place is None else f" at position {place}"
    try:
        json.dumps(plain(value), allow_nan=False)
    except ValueError:
        raise ValueError(f"{what}: needs finite values, got {value!r}{where}.") from None
    except RecursionError:
        raise ValueError(
            f"{what}: needs values that do not hold themselves, got {object_repr(value)}{where}."
        ) from None
    except TypeError:
        label = name_of(value).lower() if callable(value) else "label"
        way = f'give it a label, tn.Choice({{"{label}": ...}})'
        raise TypeError(f"{what}: only plain values can be stored, got {object_repr(value)}{where}; {way}.") from None


def object_repr(value: Any) -> str:
    """Return a short readable name of any object, without memory addresses."""
    if isinstance(value, Callable) and hasattr(value, "__qualname__"):  # type: ignore[arg-type]
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, partial):
        words = [*map(object_repr, value.args), *(f"{k}={object_repr(v)}" for k, v in value.keywords.items())]
        return f"partial({', '.join([object_repr(value.func), *words])})"
    if getattr(type(value), "__repr__", None) is object.__repr__:
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return repr_of(value)
