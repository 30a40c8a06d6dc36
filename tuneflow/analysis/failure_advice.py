"""Advice on trials that fail or diverge: the part of a range, or the label, that they come from."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.history.trial import WORTHLESS, Trial
from tuneflow.space.coordinates import Array
from tuneflow.space.parameters import Choice, Float, Int, Parameter
from tuneflow.space.values import key_of
from tuneflow.space.wider import with_range

FEWEST = 8  # ended trials, below which nothing is said
MOST = 0.35  # the share of time, or of trials, from which on the loss is said
BEYOND = 0.8  # of the trials beyond a bound have to be lost,
INSIDE = 0.1  # and so few of the sound ones
BAD = 3  # lost trials that a bound has to explain at least
EXPLAINED = 0.6  # and the share of them


@dataclass(frozen=True)
class SmallerRange:
    """A smaller range of a parameter, or fewer labels, without most of the trials that are lost.

    Attributes:
        name: the parameter's dotted name.
        parameter: the smaller one.
        lost: number of lost trials that it would not have had.
        sound: number of sound trials that it would not have had.
    """

    name: str
    parameter: Parameter
    lost: int
    sound: int


def failure_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding where trials that failed or diverged took a large share of the time, or are as many."""
    trials = [trial for trial in record.history.observed if trial.parent is None]
    lost = np.array([trial.status in WORTHLESS for trial in trials], dtype=bool)
    if len(trials) < FEWEST or lost.sum() < BAD:
        return
    seconds = np.array([trial.seconds for trial in trials])
    time = float(seconds[lost].sum() / seconds.sum()) if seconds.sum() > 0 else 0.0
    if max(time, float(lost.mean())) < MOST:
        return
    kinds = Counter(trial.status for trial in trials if trial.status in WORTHLESS)
    words = " and ".join(f"{count} {status}" for status, count in kinds.items())
    fact = f"{words}: {int(lost.sum())} of {plural(len(trials), 'trial')} and {time:.0%} of the time"
    numbers = {"trials": float(lost.mean()), "time": time}
    units = record.history.units[[trial.number for trial in trials]]
    bound = _best_bound(record, units, lost)
    if bound is None:
        usual = Counter(_reason(trial) for trial in trials if trial.status in WORTHLESS).most_common(1)[0][0]
        yield Finding("failures", fact, Adjustment(f"no range or label explains it; most often: {usual}"), numbers)
        return
    change = Adjustment(
        f"narrow {bound.name} to {bound.parameter!r}; {bound.lost} of {bound.lost + bound.sound} beyond it were lost",
        {bound.name: bound.parameter},
    )
    yield Finding("failures", fact, change, numbers, bound.name)


def _reason(trial: Trial) -> str:
    return trial.reason.splitlines()[0] if trial.reason else trial.status


def _best_bound(record: StudyRecord, units: Array, lost: Any) -> SmallerRange | None:
    """Return the bound that spares the most lost trials for the fewest sound ones."""
    space = record.space
    bounds = [
        bound
        for name, place in space.parameters.items()
        for bound in _bounds(name, space.coordinates[place].whole, units[:, place], lost)
    ]
    able = [bound for bound in bounds if bound.lost >= max(BAD, EXPLAINED * lost.sum())]
    return max(able, key=lambda bound: bound.lost - 2 * bound.sound, default=None)


def _bounds(name: str, parameter: Parameter, units: Array, lost: Any) -> Iterator[SmallerRange]:
    if isinstance(parameter, Float | Int):
        for upper in (False, True):
            yield from _ranges(name, parameter, units, lost, upper)
    elif isinstance(parameter, Choice) and len(parameter.options) > 1:
        yield from _labels(name, parameter, units, lost)


def _ranges(name: str, parameter: Float | Int, units: Array, lost: Any, upper: bool) -> Iterator[SmallerRange]:
    """Yield the range that ends before the lost trials at an end, if they are mostly such."""
    active = ~np.isnan(units)
    inwards = units[active] if not upper else 1 - units[active]  # 0 at the end that is cut off
    order = np.argsort(inwards, kind="stable")
    gone = lost[active][order]
    if not len(gone):
        return
    bad, counts = np.cumsum(gone), np.arange(1, len(gone) + 1)
    good = counts - bad
    fits = (bad >= BEYOND * counts) & (good <= INSIDE * (~lost).sum()) & gone
    if not fits.any() or fits.all():
        return
    last = int(np.flatnonzero(fits)[np.argmax((bad - 2 * good)[fits])])
    if last + 1 >= len(order):
        return
    inner = float(inwards[order[last + 1]])
    edge = (float(inwards[order[last]]) + inner) / 2 if math.isinf(parameter.levels) else inner
    value = parameter.from_unit(1 - edge if upper else edge)
    smaller = _cut(parameter, value, upper)
    if smaller is not None:
        yield SmallerRange(name, smaller, int(bad[last]), int(good[last]))


def _cut(parameter: Float | Int, value: Any, upper: bool) -> Parameter | None:
    """Return the range that ends at a value; None where nothing would be left of it."""
    value = value if isinstance(parameter, Int) or parameter.step else float(f"{value:.2g}")
    low, high = (parameter.low, value) if upper else (value, parameter.high)
    return with_range(parameter, max(low, parameter.low), min(high, parameter.high))


def _labels(name: str, choice: Choice, units: Array, lost: Any) -> Iterator[SmallerRange]:
    """Yield the choice without the labels of which most trials were lost."""
    values = choice.values
    bad: list[Any] = []
    counts = [0, 0]
    for value in values:
        chosen = np.abs(units - choice.to_unit(value)) < 1e-9
        gone, sound = int((chosen & lost).sum()), int((chosen & ~lost).sum())
        if gone >= BAD and gone >= BEYOND * (gone + sound):
            bad.append(value)
            counts = [counts[0] + gone, counts[1] + sound]
    if bad and len(bad) < len(values):
        yield SmallerRange(name, without(choice, bad), counts[0], counts[1])


def without(choice: Choice, values: Sequence[Any]) -> Choice:
    """Return a choice without some of its values."""
    gone = {key_of(value) for value in values}
    chances = dict(zip(map(key_of, choice.values), choice.weights, strict=False))
    kept = [value for value in choice.values if key_of(value) not in gone]
    options: Any = {label: choice.options[label] for label in kept} if isinstance(choice.options, Mapping) else kept
    return replace(choice, options=options, prior=[chances[key_of(value)] for value in kept] if chances else None)
