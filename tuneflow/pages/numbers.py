"""The four numbers at the top of the page: the best, the trials, the epochs, the time."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tuneflow.analysis.best_so_far import own_epochs
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.errors import plural
from tuneflow.markup.html import Markup, element
from tuneflow.pages.section import PageSection
from tuneflow.pages.times import duration

ORDER = ("DONE", "STOPPED", "DIVERGED", "SCREENED", "FAILED", "RUNNING", "PAUSED", "CLAIMED")


def numbers(record: StudyRecord) -> PageSection:
    """Return the best score and when it came, the trials by status, the epochs, and the time of training."""
    cards = (_best(record), _trials(record), _epochs(record), _time(record))
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


def _trials(record: StudyRecord) -> Markup:
    counts = Counter[str](trial.status for trial in record.trials)
    return _card("trials", str(len(record.trials)), (f"{counts[s]} {s.lower()}" for s in ORDER if counts[s]))


def _epochs(record: StudyRecord) -> Markup:
    history, trials = record.history, [trial for trial in record.trials if trial.status != "CLAIMED"]
    spent = sum(map(own_epochs, trials))
    if history.open_end:
        return _card("epochs", f"{spent:,}", [])
    whole = sum(history.epochs - (trial.parent[1] if trial.parent else 0) for trial in trials if trial.ended)
    saved = whole - sum(own_epochs(trial) for trial in trials if trial.ended)
    share = f"{saved:,} saved of {whole:,} by ending early" if saved > 0 else ""
    return _card("epochs", f"{spent:,}", [f"full length {history.epochs}", share])


def _time(record: StudyRecord) -> Markup:
    runtime = record.facts.get("runtime") or {}
    return _card("time of training", duration(sum(trial.seconds for trial in record.trials)), _place(runtime))


def _place(runtime: dict[str, Any]) -> list[str]:
    """Return the device and the arithmetic in words."""
    lanes = "in lanes" if runtime.get("executor") == "fused" else ""
    device, precision = runtime.get("device", ""), runtime.get("precision", "")
    layout = "channels last" if runtime.get("channels_last") else ""
    return [", ".join(filter(None, [device, precision, layout, lanes]))]
