"""Ticks of an axis: round numbers, and their texts."""

import math
from collections.abc import Iterable

Tick = tuple[float, str]  # a value and its text

ROUND = (1.0, 2.0, 5.0)


def linear_ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[Tick]:
    """Return multiples of 1, 2 or 5 times a power of ten within a range; where there is none, the lower end.

    Args:
        low: the lower end.
        high: the upper end, above `low`.
        most: number of ticks at most.
        whole: whole numbers only.

    Example:
        >>> linear_ticks(0.0, 1.0, most=4)
        [(0.0, '0.0'), (0.5, '0.5'), (1.0, '1.0')]
    """
    step = _step((high - low) / most)
    step = max(1.0, step) if whole else step
    while (count := len(multiples := _multiples(low, high, step))) > most:
        step = _step(1.5 * step)
    places = _decimals(step)
    return [(value, number_label(value, places)) for value in multiples] if count else [(low, log_label(low))]


def log_ticks(low: float, high: float, most: int = 6) -> list[Tick]:
    """Return powers of ten within a range, each n-th of many; with fewer than two, round numbers between them too.

    Args:
        low: the lower end, above 0.
        high: the upper end.
        most: number of ticks at most.

    Example:
        >>> [text for _, text in log_ticks(1e-5, 1.0)]
        ['1e-5', '1e-4', '0.001', '0.01', '0.1', '1']
    """
    for values in (_round_numbers(low, high), _powers(low, high)):
        if 2 <= len(values) <= most:
            return [(value, log_label(value)) for value in values]
    powers = _powers(low, high)
    if len(powers) > most:
        return [(value, log_label(value)) for value in powers[:: math.ceil(len(powers) / most)]]
    return linear_ticks(low, high, most)


def share_ticks(low: float, high: float, most: int = 6) -> list[Tick]:
    """Return shares below 1, such as 0.9, 0.99 and 0.999, that are spread evenly in the logarithm of the error.

    Args:
        low: the largest error, 1 minus the lowest share.
        high: the smallest error, above 0.
        most: number of ticks at most.

    Example:
        >>> [text for _, text in share_ticks(0.5, 0.004)]
        ['0.5', '0.8', '0.9', '0.95', '0.98', '0.99', '0.995']
    """
    errors = [value for value, _ in log_ticks(high, low, most + 1)]
    return [(1 - error, f"{1 - error:.10g}") for error in reversed(errors) if error < 1]


def number_label(value: float, places: int) -> str:
    """Return a number with so many decimals, or short where it is very large."""
    if abs(value) >= 1e6:
        return log_label(value)
    return f"{value:,.{places}f}"


def log_label(value: float) -> str:
    """Return a number in few characters.

    Example:
        >>> [log_label(value) for value in (0.00001, 0.02, 10.0, 2000.0, 1e6)]
        ['1e-5', '0.02', '10', '2,000', '1e6']
    """
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, power = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.6g}"


def _step(least: float) -> float:
    """Return the smallest round number that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (*ROUND, 10.0) if factor * power >= least * (1 - 1e-9))


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step + 0.0 for number in range(first, last + 1)]


def _decimals(step: float) -> int:
    """Return the decimals that multiples of a round number need."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _powers(low: float, high: float) -> list[float]:
    ends = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{power}") for power in range(ends[0], ends[1] + 1)]


def _round_numbers(low: float, high: float) -> list[float]:
    powers: Iterable[int] = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (float(f"{factor:g}e{power}") for power in powers for factor in ROUND)
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
