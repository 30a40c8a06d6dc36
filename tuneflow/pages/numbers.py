"""The four numbers at the top of the page: the best, the trials, the epochs, the time."""

from collections.abc import Iterable, Iterator

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.totals import Totals, totals_of
from tuneflow.history.trial import Trial
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
        return _card("on the front", str(len(record.front)), names)
    metric, up = record.objective.goals[0]
    name = f"best {metric}, {'more' if up else 'less'} is better"
    best = record.history.leader
    if best is None:
        return _card(name, "none yet", [])
    score = rounded_text(best.metrics[metric], best.errors.get(metric, 0.0))
    return _card(name, score, [f"trial {best.number} of {len(record.trials)}", *_when(record, best)])


def _when(record: StudyRecord, best: Trial) -> Iterator[str]:
    """Yield the epoch that counts for the best trial, and its time after the first report, where these are known."""
    selected = record.objective.pick(best.reports)
    if selected is None:
        return
    yield f"epoch {selected.epoch} of {best.epochs}"
    times = [report.at - report.seconds for trial in record.trials for report in trial.reports[:1] if report.at]
    if times and selected.at:
        yield f"{duration(selected.at - min(times))} after the start"


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
