"""Remarks on the members of a front: why one of them is not on the front of other scores, such as confirmed means."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.history.objective import Objective
from tuneflow.history.pareto import fronts


def unbeaten(objective: Objective, members: Iterable[Confirmed]) -> list[Confirmed]:
    """Return the confirmed trials that are on the front of their means."""
    known = {scores.number: scores for scores in members}
    remarks = remarks_of(objective, {number: scores.metrics for number, scores in known.items()})
    return [scores for number, scores in known.items() if not remarks[number]]


def remarks_of(objective: Objective, scores: Mapping[int, Mapping[str, float]]) -> dict[int, str]:
    """Return for each trial by number why it is not on the front of `scores`; empty for one that is.

    Args:
        objective: the study's.
        scores: number to metrics; without any for a trial that has no score.
    """
    finite = {n: m for n, m in scores.items() if m and all(map(math.isfinite, objective.costs(m)))}
    within = [number for number, metrics in finite.items() if not objective.breach(metrics)]
    costs = np.array([objective.costs(finite[number]) for number in within])
    front = [within[place] for place in next(fronts(costs))] if within else []
    remarks = {}
    for number in scores:
        if number not in finite:
            remarks[number] = "no score"
        elif number not in within:
            remarks[number] = "beyond the limits"
        else:
            remarks[number] = (
                "" if number in front else _beaten(objective.costs(finite[number]), front, objective, finite)
            )
    return remarks


def _beaten(
    own: tuple[float, ...], front: list[int], objective: Objective, scores: Mapping[int, Mapping[str, float]]
) -> str:
    others = {number: objective.costs(scores[number]) for number in front}
    beaten = (number for number, costs in others.items() if all(a <= b for a, b in zip(costs, own, strict=True)))
    return f"beaten by trial {next(beaten)}"
