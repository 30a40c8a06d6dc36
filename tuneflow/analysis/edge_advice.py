"""Advice on ranges: the best trials crowd at an end, beyond which better ones may be."""

from collections.abc import Iterator

import numpy as np

from tuneflow.analysis.additive_fit import AdditiveFit
from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.ranked_trials import RankedTrials, ranked_trials
from tuneflow.analysis.record import StudyRecord
from tuneflow.space.coordinates import Coordinates
from tuneflow.space.wider import wider

FEWEST = 16  # trials with a score, below which nothing is said
BEST = 0.12  # the share of trials that count as the best, four at least
NEAR, MOST_NEAR = 0.35, 0.6  # so near to an end, as a share of the range, has to be this share of them,
FIRST = 0.25  # and so near the best one
SLOPE, SLOPE_OF_A_CROWD = 1.7, 2.3  # standard errors of the slope at that end; the latter where half of all trials are
LEVELS = 4  # values that a number needs to have an inside


def edge_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding for each range whose best trials crowd at an end, where scores still improve towards it.

    Nothing is said of natural ends (see `wider`), labels, settings of a model's steps, the number of training rows, and
    with several objectives.
    """
    if record.objective.several:
        return
    ranked, space = ranked_trials(record.history), record.space
    if ranked.scored < FEWEST:
        return
    kinds = Coordinates(space)
    fit = AdditiveFit(ranked, kinds)
    if not fit.able:
        return
    steps = tuple(f"{name}." for name in record.facts.get("steps") or ())
    for name, place in space.parameters.items():
        if kinds.numbers[place] and kinds.levels[place] >= LEVELS and not name.startswith((*steps, "trainer.rows")):
            for upper in (False, True):
                yield from _at_end(record, ranked, name, upper, fit.improvement(place, upper))


def _at_end(record: StudyRecord, ranked: RankedTrials, name: str, upper: bool, slope: float) -> Iterator[Finding]:
    place = record.space.parameters[name]
    units = ranked.units[:, place]
    away = (1 - units if upper else units)[~np.isnan(units)]
    if len(away) < FEWEST or np.isnan(units[0]):  # not active in enough trials, or in the best one
        return
    best = away[: max(4, round(BEST * len(away)))]
    near = float(np.mean(best < NEAR))
    crowded = float(np.mean(away < NEAR)) > 0.5
    if not (near >= MOST_NEAR and best[0] < FIRST and slope > (SLOPE_OF_A_CROWD if crowded else SLOPE)):
        return
    old = record.space.coordinates[place].whole
    new = wider(name, old, upper)
    if new is None:
        return
    end, value = "upper" if upper else "lower", record.space.values_at(ranked.units[0])[name]
    reach = float(np.max(best[best < NEAR]))
    count = "all" if near == 1 else round(near * len(best))
    fact = (
        f"{name}: {count} of the best {len(best)} trials are in the {end} {max(reach, 0.01):.0%} of"
        f" its range, the best at {_short(value)}, and scores improve towards that end"
    )
    numbers = {"best": float(value), "share": near, "slope": slope}
    yield Finding("edge", fact, Adjustment(f"widen it to {new!r}", {name: new}), numbers, name)


def _short(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
