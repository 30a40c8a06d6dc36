"""The first sentence of the page: the best score with its error, its ties, and what other seeds and data said."""

import math

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.ties import Ties, full_seconds, ties_of
from tuneflow.errors import plural
from tuneflow.history.trial import Trial
from tuneflow.markup.html import Markup, element, joined
from tuneflow.metrics.measured import interval_text, rounded_text
from tuneflow.pages.section import PageSection
from tuneflow.pages.times import duration

CLEARLY = 1.5  # times as expensive; seconds of equal trainings differ by less on a machine that does nothing else


def headline(record: StudyRecord) -> PageSection:
    """Return the sentence on the study's result, or on why there is none yet."""
    if record.objective.several:
        body = _of_front(record)
    else:
        body = _of_best(record) if record.history.leader is not None else _missing(record)
    return PageSection("headline", "", body)


def _of_best(record: StudyRecord) -> Markup:
    best = record.history.leader
    assert best is not None
    metric = record.objective.metric
    score = rounded_text(best.metrics[metric], best.errors.get(metric, math.nan))
    opening = joined(
        f"Best {metric}: ", element("strong", score), f" by {_trial(best)}{_mean(record, best)}{_within(record)}."
    )
    rest = filter(None, [_tied(ties_of(record), best), _confirmed(record), _tested(record)])
    return element("p", opening, *(f" {sentence}" for sentence in rest))


def _within(record: StudyRecord) -> str:
    limits = record.objective.limits
    return f", within {' and '.join(map(str, limits))}" if limits else ""


def _mean(record: StudyRecord, best: Trial) -> str:
    """Return what the score is the mean of, where the configuration was trained several times."""
    trainings = sum(record.trials[number].ended for number in record.history.trainings.numbers(best))
    return f", the mean of {trainings} trainings" if trainings > 1 else ""


def _trial(trial: Trial) -> str:
    return f"trial {trial.number}"


def _tied(ties: Ties | None, best: Trial) -> str:
    """Return the sentence on the trials that tie with the best, and the cheapest where it clearly is."""
    if ties is None:
        return "Its standard error is not known, so neither is what ties with it."
    others = len(ties.numbers) - 1
    if not others:
        return "No other trial ties with it."
    verb = "ties" if others == 1 else "tie"
    first = f"{plural(others, 'other trial')} {verb} with it"
    cheapest = ties.cheapest
    own, least = (full_seconds(trial) if best.seconds else trial.epochs for trial in (best, cheapest))
    if own < CLEARLY * least:
        return f"{first}."
    return f"{first}; the cheapest, {_trial(cheapest)}, took {_price(cheapest)} in place of {_price(best)}."


def _price(trial: Trial) -> str:
    return duration(full_seconds(trial)) if trial.seconds else plural(trial.epochs, "epoch")


def _confirmed(record: StudyRecord) -> str:
    """Return the sentence on the trial that fresh seeds chose."""
    metric = record.objective.metric
    for one in record.confirmed:
        if not one.reason:
            score = rounded_text(one.metrics[metric], one.errors.get(metric, math.nan))
            return f"{plural(one.seeds, 'fresh seed')} chose trial {one.number}: {score}."
    return ""


def _tested(record: StudyRecord) -> str:
    """Return the sentence on the best trial's score on other data."""
    best, metric = record.best, record.objective.metric
    for one in record.tested:
        if best is not None and one.trial == best.number and metric in one.estimates:
            rows = f"{plural(one.rows, 'row')} of test data" if one.rows else "test data"
            return f"On {rows} trial {one.trial} has {interval_text(one.estimates[metric])}, a 95 % interval."
    return ""


def _of_front(record: StudyRecord) -> Markup:
    """Return the sentence on the front of several objectives, with the best value of each."""
    front = record.front
    if not front:
        return _missing(record)
    parts = []
    for metric, maximize in record.objective.goals:
        best = (max if maximize else min)(front, key=lambda trial: trial.metrics[metric])
        score = rounded_text(best.metrics[metric], best.errors.get(metric, math.nan))
        parts += [f"; {metric} {'up' if maximize else 'down'} to ", element("strong", score), f" by {_trial(best)}"]
    beaten = "is beaten by no other one" if len(front) == 1 else "are beaten by no other one"
    return element("p", f"{plural(len(front), 'trial')} {beaten} in every objective{_within(record)}", *parts, ".")


def _missing(record: StudyRecord) -> Markup:
    """Return the reason why no trial has a score, as a sentence."""
    reason = record.history.missing
    return element("p", reason[:1].upper() + reason[1:])
