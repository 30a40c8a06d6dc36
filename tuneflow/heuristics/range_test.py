"""Range test: a short training under a growing learning rate, and the rates that its curve suggests."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BETA = 0.98  # of the smoothed loss, per step
FEWEST = 10  # steps that a curve needs before anything is read off it


@dataclass(frozen=True)
class Suggestions:
    """A curve, and the learning rates that the usual rules read off it.

    Attributes:
        steepest: where the loss falls fastest per factor of the rate.
        minimum: a tenth of the rate where the loss is lowest.
        valley: half way through the longest stretch of falling losses.
        rates: of the curve, ascending.
        mean: of the smoothed loss over the seeds, one for each rate.
        spread: standard deviation of the same; 0 for one seed.
    """

    steepest: float
    minimum: float
    valley: float
    rates: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]


def sweep(
    step: Callable[[float], float], low: float, high: float, steps: int = 100, beta: float = BETA
) -> tuple[list[float], list[float]]:
    """Train at rates that grow geometrically from `low` to `high`, until the loss explodes.

    Stops after the step whose smoothed loss exceeds 4 times the lowest so far (for a negative lowest: exceeds it by 3
    times its size), and before one whose loss is not finite.

    Args:
        step: takes one optimizer step at the rate it is given, and returns the loss before that step.
        low: first rate, above 0.
        high: last rate, above `low`.
        steps: at least 2.
        beta: weight of the past in the smoothed loss, within [0, 1).

    Returns:
        The rates that were tried and their losses, not smoothed, of the same length; both may be empty.

    Raises:
        ValueError: the rates are not ascending from above 0, or there are fewer than 2 steps.

    Example:
        >>> rates, losses = sweep(lambda rate: 1.0 if rate < 0.5 else 100.0, low=1e-3, high=1.0, steps=4)
        >>> [round(rate, 3) for rate in rates], losses
        ([0.001, 0.01, 0.1, 1.0], [1.0, 1.0, 1.0, 100.0])

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017 (2015); rates, smoothing and the
    factor 4 as in fastai.
    """
    if not 0 < low < high < math.inf or steps < 2:
        raise ValueError(f"sweep needs 0 < low < high and 2 steps or more, got {low}, {high} and {steps}.")
    rates: list[float] = []
    losses: list[float] = []
    running, lowest = 0.0, math.inf
    for number in range(steps):
        rate = low * (high / low) ** (number / (steps - 1))
        loss = step(rate)
        if not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        running = beta * running + (1 - beta) * loss
        here = running / (1 - beta ** (number + 1))
        lowest = min(lowest, here)
        if here > lowest + 3 * abs(lowest):
            break
    return rates, losses


def suggestions(rates: Sequence[float], *curves: Sequence[float], beta: float = BETA) -> Suggestions:
    """Return the learning rates that the usual rules suggest, from the losses of one or more sweeps.

    The curves are smoothed, cut to the shortest, and averaged; the rules see the average:

    - steepest: the lowest slope of the loss over the logarithm of the rate;
    - minimum: the rate of the lowest loss, divided by 10;
    - valley: of the longest subsequence of falling losses, taken for as many neighbors that end where it ends, the
      point half way.

    As published, none of them sees the first tenth of the curve or its last 5 points.

    Args:
        rates: ascending; at least as many as the shortest curve has losses.
        curves: the losses of one seed each, raw, at the first of `rates`; lengths may differ.
        beta: weight of the past in the smoothed loss, within [0, 1); 0 for curves that are smooth already.

    Raises:
        ValueError: there is no curve, the shortest has fewer than 10 losses, or the rates do not ascend.

    Example:
        >>> rates = [10 ** (n / 10 - 5) for n in range(60)]
        >>> bowl = [(math.log10(rate) + 2) ** 2 for rate in rates]
        >>> round(math.log10(suggestions(rates, bowl, beta=0.0).minimum), 3)
        -3.0

    Source: steepest and minimum: Gugger, How do you find a good learning rate, 2018; valley: fastai 2.3, pull request
    3377, 2021.
    """
    length = min([len(rates), *map(len, curves)])
    if not curves or length < FEWEST:
        raise ValueError(f"suggestions needs {FEWEST} losses or more, got {length}; start the sweep at a lower rate.")
    growth = np.asarray(rates[:length], dtype=float)
    if not (growth[0] > 0 and (np.diff(growth) > 0).all()):
        raise ValueError("suggestions: rates need to ascend from above 0, as sweep returns them.")
    smooth = np.array([_smoothed(np.asarray(curve[:length], dtype=float), beta) for curve in curves])
    mean = smooth.mean(0)
    spread = smooth.std(0, ddof=1) if len(curves) > 1 else np.zeros(length)
    inner = slice(length // 10, length - 5)
    seen, loss = growth[inner], mean[inner]
    return Suggestions(
        steepest=float(seen[(np.diff(loss) / np.diff(np.log(seen))).argmin()]),
        minimum=float(seen[loss.argmin()]) / 10,
        valley=float(seen[_valley(loss)]),
        rates=tuple(growth.tolist()),
        mean=tuple(mean.tolist()),
        spread=tuple(spread.tolist()),
    )


def _smoothed(losses: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return the exponential average of the past, corrected for its start at 0."""
    running, smooth = 0.0, np.empty_like(losses)
    for number, loss in enumerate(losses):
        running = beta * running + (1 - beta) * loss
        smooth[number] = running / (1 - beta ** (number + 1))
    return smooth


def _valley(losses: NDArray[np.float64]) -> int:
    """Return the index half way through the longest valley; the earliest of equals."""
    longest = np.ones(len(losses), dtype=int)  # falling subsequence that ends here
    for place in range(1, len(losses)):
        above = longest[:place][losses[:place] > losses[place]]
        longest[place] = 1 + (above.max() if len(above) else 0)
    end = int(longest.argmax())
    third = int(longest[end]) / 3
    return max(0, end - int(longest[end])) + int(third) + int(third / 2)
