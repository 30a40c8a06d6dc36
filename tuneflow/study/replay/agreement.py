"""Agreement: whether numbers of a training and of its repetition are equal, drifted apart by rounding, or different."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tuneflow.history.trial import Report

Verdict = Literal["equal", "drift", "differs", "open"]
STATE = "state"  # the name of the gap between two states

ROUNDING = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-2}  # a relative difference that needs nothing to explain it
TIMES = 30.0  # the differences that noise of the size of rounding came to, at most
MOST = {True: 0.5, False: 0.2}  # a relative difference of a state, and of any other number, at most


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference between a stored number and that of the repetition.

    Attributes:
        epoch: of both numbers.
        name: of the metric; of its standard error with ` error` after it; or STATE.
        stored, trained: the numbers; of a state 0 and the size.
        size: the difference, relative to the larger of the two and at least 1 % of the largest of this name.
        step: the relative size of a step that the metric moves in, as one row does an accuracy; 0 without.
    """

    epoch: int
    name: str
    stored: float
    trained: float
    size: float
    step: float = 0.0

    def __str__(self) -> str:
        if self.name == STATE:
            return f"the state after epoch {self.epoch} differs by {self.size:.1e} of its norm"
        return f"{self.name} at epoch {self.epoch} is stored as {self.stored!r}, trained again it is {self.trained!r}"


def gaps_between(stored: Sequence[Report], trained: Sequence[Report], steps: Mapping[str, float]) -> list[Gap]:
    """Return the gap of every number of the stored reports and of the repetition's, in order, equal numbers too.

    Args:
        stored: the reports of some epochs.
        trained: those of the repetition, of the same epochs.
        steps: name to the step that a metric moves in.
    """
    pairs = [(one.epoch, _numbers(one), _numbers(other)) for one, other in zip(stored, trained, strict=True)]
    scales: dict[str, float] = {}
    for _, one, other in pairs:
        for name, value in [*one.items(), *other.items()]:
            scales[name] = max(scales.get(name, 0.0), abs(value) if math.isfinite(value) else 0.0)
    return [
        _gap(epoch, name, one.get(name), other.get(name), scales[name], steps.get(_metric(name), 0.0))
        for epoch, one, other in pairs
        for name in dict.fromkeys([*one, *other])
    ]


def verdict_of(gaps: Sequence[Gap], noise: Sequence[Gap], precision: str) -> tuple[Verdict, list[Gap]]:
    """Return the verdict on a slice, with the gaps that rounding does not explain, or else those that there are.

    Rounding changes every number of an epoch and of those after it, and training amplifies it: in one net to 1e-7, in
    another to a hundredth, as repetitions from a start with noise of that size show. So a gap is explained where it is
    at most 30 times those of the noise, and other numbers differ in the epochs before it as in those after it. A metric
    that moves in steps may be off by one more.

    Args:
        gaps: of a slice, those of its epochs in order.
        noise: the gaps between repetitions, one of them from its start and the others from a start with noise.
        precision: of the runtime.
    """
    different = [gap for gap in gaps if gap.size > 0]
    if not different:
        return "equal", []
    unexplained = [gap for gap in different if not _is_explained(gap, gaps, noise, rounding_of(precision))]
    return ("differs", unexplained) if unexplained else ("drift", different)


def rounding_of(precision: str) -> float:
    """Return the relative difference of two numbers that needs nothing to explain it."""
    return ROUNDING.get(precision, ROUNDING["fp32"])


def _is_explained(gap: Gap, gaps: Sequence[Gap], noise: Sequence[Gap], rounding: float) -> bool:
    if gap.size <= rounding:
        return True
    of_state = gap.name == STATE
    amplified = max((other.size for other in noise if (other.name == STATE) is of_state), default=0.0)
    return _is_accompanied(gap, gaps) and gap.size - gap.step <= min(MOST[of_state], max(rounding, TIMES * amplified))


def _is_accompanied(gap: Gap, gaps: Sequence[Gap]) -> bool:
    """True if other numbers differ before a gap as after it, as far as any are compared there; else beside it."""
    if len(gaps) == 1:
        return gap.name == STATE
    others = [other for other in gaps if _metric(other.name) != _metric(gap.name)]
    others = others or [other for other in gaps if other.epoch != gap.epoch]
    before = [other.size for other in others if other.epoch < gap.epoch]
    after = [other.size for other in others if other.epoch > gap.epoch or other.name == STATE]
    sides = [side for side in (before, after) if side] or [[other.size for other in others]]
    return all(max(side, default=0.0) > 0 for side in sides)


def _numbers(report: Report) -> dict[str, float]:
    return {**report.metrics, **{f"{name} error": value for name, value in report.errors.items()}}


def _metric(name: str) -> str:
    return name.removesuffix(" error")


def _gap(epoch: int, name: str, stored: float | None, trained: float | None, scale: float, step: float) -> Gap:
    """Return the gap between two numbers; it is infinite where one is missing or not finite and the other is."""
    if stored is None or trained is None:
        return Gap(epoch, name, _known(stored), _known(trained), math.inf)
    if stored == trained or (stored != stored and trained != trained):
        return Gap(epoch, name, stored, trained, 0.0)
    size = abs(stored - trained)
    unit = max(abs(stored), abs(trained), scale / 100)
    return Gap(epoch, name, stored, trained, size / unit if math.isfinite(size) else math.inf, step / unit)


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def steps_of(reports: Iterable[Report]) -> dict[str, float]:
    """Return by name of a metric the step that it may move in when one row changes sides, as an accuracy does.

    It is the least difference between two values of the metric, at most 0.05.
    """
    values: dict[str, set[float]] = {}
    for report in reports:
        for name, value in report.metrics.items():
            values.setdefault(name, set()).add(value)
    return {name: _least_difference(every) for name, every in values.items()}


def _least_difference(values: set[float]) -> float:
    """Return the least difference between two of these values, at most 0.05; 0 of a single one."""
    ordered = sorted(value for value in values if math.isfinite(value))
    gaps = [after - before for before, after in pairwise(ordered)]
    return min(0.05, min(gaps, default=0.0))
