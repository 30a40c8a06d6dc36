"""The four numbers at the top of the page: the best, the trials, the epochs, the time."""

from collections.abc import Iterable

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.totals import Totals, totals_of
from tuneflow.errors import plural
from tuneflow.markup.html import Markup, element
from tuneflow.pages.section import PageSection
from tuneflow.pages.times import duration


def numbers(record: StudyRecord) -> PageSection:
    """Return the best score and when it came, the trials by status, the epochs, and the time of training."""
    totals = totals_of(record)
    cards = (_best(record), _trials(record, totals), _epochs(record, totals), _time(totals))
    return PageSection("numbers", "", element("dl", *cards))


def _card(name: str, number: str, details: Iterable[str]) -> Markup:
    rest = (element("span", text) for text in details if text)
    return element("div", element("dt", name), element("dd", element("b", number), *rest))


def _best(record: StudyRecord) -> Markup:
    if record.objective.several:
        names = [f"{metric}, {'more' if up else 'less'} is better" for metric, up in record.objective.goals]
        return _card("on the front", str(len(record.history.front)), names)
    metric, up = record.objective.goals[0]
    name = f"best {metric}, {'more' if up else 'less'} is better"
    best = record.history.leader
    if best is None:
        return _card(name, "none yet", [])
    when = _ended_before(record, best.number)
    after = f"after {plural(when, 'trial')}" if when else "the first trial that ended"
    return _card(
        name, rounded_text(best.metrics[metric], best.errors.get(metric, 0.0)), [f"trial {best.number}", after]
    )


def _ended_before(record: StudyRecord, number: int) -> int:
    """Return the number of trials that had ended when this one did."""
    return [trial.number for trial in record.history.finished].index(number)


def _trials(record: StudyRecord, totals: Totals) -> Markup:
    details = (f"{count} {status.lower()}" for status, count in totals.statuses.items())
    return _card("trials", str(len(record.trials)), details)


def _epochs(record: StudyRecord, totals: Totals) -> Markup:
    if record.history.open_end:
        return _card("epochs", f"{totals.epochs:,}", [])
    saved = f"{totals.saved:,} of {totals.full:,} saved by ending early" if totals.saved else ""
    return _card("epochs", f"{totals.epochs:,}", [f"full length {record.history.epochs}", saved])


def _time(totals: Totals) -> Markup:
    wall = f"{duration(totals.wall)} by the clock" if totals.workers > 1 else ""
    return _card("time of training", duration(totals.seconds), [wall, ", ".join(totals.place)])
