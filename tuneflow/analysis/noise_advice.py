"""Advice on noise: differences that the validation data cannot show, and a best score that is in part luck."""

import math
from collections.abc import Iterator

import numpy as np

from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.selection_bias import optimism
from tuneflow.analysis.ties import ties_of
from tuneflow.errors import plural
from tuneflow.history.same_configuration import scores_of
from tuneflow.metrics.measured import number_text, rounded_text

FEWEST = 10  # configurations with a score, below which nothing is said
TIED = 0.5  # the share of them that tie with the best one where nothing but noise tells them apart,
SPREAD = 5.0  # and nine of ten are within so many standard errors of it: a search that has converged began farther away
LUCK = 1.0  # standard errors that the best score is too good by
REPLICAS = 3
FUNCTION = "function"  # among the facts of a trainer that calls a plain function


def noise_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding where most trials cannot be told from the best one."""
    ties = ties_of(record)
    if ties is None:
        return
    costs, errors = scores_of(record.history)
    error = float(np.nanmedian(errors))
    if len(costs) < FEWEST or not error > 0:
        return
    away = (costs - costs.min()) / error
    if len(ties.numbers) < TIED * len(costs) or np.quantile(away, 0.9) > SPREAD:
        return
    metric, tied = record.objective.metric, len(ties.numbers) - 1
    fact = (
        f"noise: {tied} of {plural(len(costs) - 1, 'other configuration')} tie with the best one: {metric} has a"
        " standard error"
        f" of {number_text(error)}, and between them a standard deviation of {number_text(float(np.std(costs)))}"
    )
    numbers = {"tied": len(ties.numbers), "configurations": len(costs), "error": error, "spread": float(np.std(costs))}
    yield Finding("noise", fact, _less_noise(record), numbers)


def _less_noise(record: StudyRecord) -> Adjustment:
    trainer = record.facts.get("trainer")
    if trainer is None or FUNCTION in trainer:
        return Adjustment("score each one on more examples, or under several seeds with errors=")
    replicas = REPLICAS * trainer.get("replicas", 1)
    words = "validate on more rows (four times as many halve the error)"
    return Adjustment(f"{words}, and train each under {replicas} seeds: replicas={replicas}", replicas=replicas)


def luck_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding where the best score is too good for having been chosen among many, and was not confirmed."""
    best = record.history.leader
    if best is None or record.confirmed:
        return
    costs, errors = scores_of(record.history)
    metric = record.objective.metric
    error, bias = best.errors.get(metric, math.nan), optimism(costs, errors)
    if len(costs) < FEWEST or not bias >= LUCK * error > 0:
        return
    score = rounded_text(best.metrics[metric], error, "+-")
    fact = (
        f"luck: the best of {len(costs)} scores, {metric} {score}, is too good by about {bias:.2g}, as it was chosen"
        " for being the best"
    )
    way = "train it anew, study.confirm()"
    trainer = record.facts.get("trainer")
    if trainer is None or FUNCTION in trainer:
        way = "score its configuration anew"
    yield Finding("luck", fact, Adjustment(f"{way}, before you believe it"), {"bias": bias, "error": error})
