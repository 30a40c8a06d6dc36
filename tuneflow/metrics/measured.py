"""A measured value with its uncertainty, and its confidence interval."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Measured(NamedTuple):
    """A value over some examples, with its uncertainty.

    Attributes:
        value: the mean over examples, or the metric's single number.
        error: its standard error over examples; NaN where it is not known.
        examples: number of examples in the mean; 0 where the metric returned one number.
        binary: every example counted 0 or 1.
        low: lower end of its 95 % interval, where that was measured by itself; else NaN.
        high: upper end of that interval, or NaN.
    """

    value: float
    error: float = math.nan
    examples: int = 0
    binary: bool = False
    low: float = math.nan
    high: float = math.nan


def measure(result: Any, rows: int | None = None) -> Measured:
    """Return a metric's result as a value with its error.

    Args:
        result: a number, or one number for each example: a tensor, an array or a list.
        rows: number of examples; None if a vector of any length will do.

    Raises:
        TypeError: the metric returned something that is neither.
    """
    vector = vector_of(result)
    if vector is not None and rows in (None, len(vector)):
        return mean_of(vector)
    try:
        return Measured(float(result))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"needs to return a number or one number per example, {_got(result, rows)}") from None


def vector_of(result: Any) -> Tensor | None:
    """Return several numbers of one dimension, a tensor, an array or a list of them, as a tensor; else None."""
    if isinstance(result, list) and all(isinstance(value, Real) for value in result):
        result = np.asarray(result, dtype=np.float64)
    if isinstance(result, list) and all(isinstance(value, Tensor) and value.ndim == 0 for value in result):
        result = torch.stack(result) if result else None
    if isinstance(result, np.ndarray) and result.dtype.kind in "biuf":
        result = torch.as_tensor(result)
    return result.detach() if isinstance(result, Tensor) and result.ndim == 1 and result.numel() > 1 else None


def mean_of(each: Tensor) -> Measured:
    """Return the mean of one number per example, shape (n,), with its standard error."""
    each = each.detach().cpu().double()
    error = (each.var(correction=1) / len(each)).sqrt() if len(each) > 1 else torch.tensor(math.nan)
    return Measured(float(each.mean()), float(error), len(each), bool(((each == 0) | (each == 1)).all()))


def ratio_of(sums: Tensor, divisors: Tensor) -> Measured:
    """Return the sum of `sums` over that of `divisors`, with its standard error; both of shape (n,).

    With equal divisors it is the mean; with unequal ones, as counts of tokens, the error is the usual one of a ratio.

    Source: Cochran, Sampling Techniques, 3rd edition, 1977, section 2.11.
    """
    sums, divisors = sums.detach().cpu().double(), divisors.detach().cpu().double()
    count, total = len(sums), divisors.sum()
    value = sums.sum() / total
    spread = (sums - value * divisors).square().sum() * count / max(1, count - 1)
    return Measured(float(value), float(spread.sqrt() / total) if count > 1 else math.nan, count)


def _got(result: Any, rows: int | None) -> str:
    """Describe what a metric returned, with the way out where there is one."""
    if not isinstance(result, Tensor | np.ndarray):
        return f"got {type(result).__name__}"
    shape = tuple(result.shape)
    if len(shape) == 2 and shape[1] == 1:
        way = "; .squeeze(1) makes it one number per example"
    elif len(shape) == 1:
        way = f" for {rows} examples; take its mean, or make a metric of each number"
    else:
        way = "; average what belongs to one example: .flatten(1).mean(1)" if len(shape) > 1 else ""
    return f"got {type(result).__name__}{shape}{way}"


@dataclass(frozen=True)
class Estimate:
    """A number measured on n examples, with its 95 % confidence interval.

    The interval is about the choice of examples only; it does not account for how the model was chosen.

    Attributes:
        value: the measured number.
        low: lower end of the interval; NaN where it is not known.
        high: upper end of the interval; NaN where it is not known.
        examples: n; 0 where it is not known.
    """

    value: float
    low: float
    high: float
    examples: int

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{number_text(self.low)}, {number_text(self.high)}]"
        return f"{number_text(self.value)}{interval}"


WHOLE, LARGE, HUGE = 100, 10_000, 1e12  # whole numbers, then all numbers without decimals, then with an exponent


def number_text(value: float) -> str:
    """Return a number with four decimals; a large one, such as a count, whole and in groups of three digits, to 1e12.

    Example:
        >>> [number_text(value) for value in (0.87125, 3.04, 1204224, 512, 12345.6, 0.00001234)]
        ['0.8712', '3.0400', '1,204,224', '512', '12,346', '1.234e-05']
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= HUGE:
        return f"{value:.4g}"
    if abs(value) >= LARGE or (abs(value) >= WHOLE and value == int(value)):
        return f"{value:,.0f}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.0001 else f"{value:.4g}"


def rounded_text(value: float, error: float = math.nan, sign: str = "±") -> str:
    """Return a value rounded to its standard error; without one as `number_text` has it.

    The error has two digits if these are at most 35, else one, so that rounding changes it by a tenth at most.

    Example:
        >>> [rounded_text(*pair) for pair in ((0.95612, 0.01123), (0.98104, 0.0072), (15_234.6, 321.0), (0.95612,))]
        ['0.956 ± 0.011', '0.981 ± 0.007', '15,230 ± 320', '0.9561']
    """
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return number_text(value)
    places = places_of(error)
    if places > 6 or max(abs(value), error) >= HUGE:
        return f"{value:.4g} {sign} {error:.2g}"
    return f"{_to(value, places)} {sign} {_to(error, places)}"


def interval_text(estimate: Estimate) -> str:
    """Return an estimate with its interval, rounded as to a standard error of a quarter of the interval.

    Example:
        >>> interval_text(Estimate(0.93888, 0.90898, 0.95943, 360))
        '0.939 (0.909 to 0.959)'
    """
    width = estimate.high - estimate.low
    if not (math.isfinite(width) and width > 0) or (places := places_of(width / 4)) > 6:
        return str(estimate)
    return f"{_to(estimate.value, places)} ({_to(estimate.low, places)} to {_to(estimate.high, places)})"


def places_of(error: float) -> int:
    """Return the number of decimal places to which a number with this standard error is shown."""
    digits = 2 if f"{error:.1e}" <= "3.5" else 1
    return digits - 1 - math.floor(math.log10(error))


def _to(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{max(0, places)}f}"  # no -0.00


Z = 1.959964  # the standard normal's 97.5 % quantile


def estimate(measured: Measured) -> Estimate:
    """Return a measured value with its 95 % interval.

    Wilson's interval where every example counts 0 or 1; that which was measured with it, where one was; else the normal
    one from the standard error.

    Example:
        >>> print(estimate(measure(torch.tensor([1.0] * 9 + [0.0]))))
        0.9000 [0.5958, 0.9821]

    Source: Wilson, JASA 22, 1927.
    """
    p, error, n, binary, low, high = measured
    if low == low:
        return Estimate(p, low, high, n)
    if not binary:
        return Estimate(p, p - Z * error, p + Z * error, n)
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Estimate(p, max(0.0, center - half), min(1.0, center + half), n)
