"""Trials as fragments of HTML, for notebooks."""

from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from typing import Any

from tuneflow.errors import plural
from tuneflow.history.cells import reason_cell, score_cell, settings_cell, settings_rows
from tuneflow.history.trial import Trial, has_score
from tuneflow.markup.fragment import cut, fragment, note, table
from tuneflow.markup.html import Markup, element, joined

BEST = 10  # trials that are shown of a study
COLUMNS = 6  # settings of trials that have columns of their own; more are in one


def trials_table(trials: Sequence[Trial], metrics: Sequence[str]) -> Markup:
    """Return a table of the first trials, with metrics of these names, and a note if there are more.

    Few settings have a column each.
    """
    shown, rest = cut(trials, "trials")
    names = list(dict.fromkeys(name for trial in shown for name, _ in settings_rows(trial.config)))
    names = names if len(names) <= COLUMNS else []
    reasons = ["reason"] if any(trial.reason for trial in shown) else []
    head = ["trial", "status", *metrics, "epochs", *(names or ["configuration"]), *reasons]
    return joined(table(head, [_row(trial, metrics, names)[: len(head)] for trial in shown]), rest)


def _row(trial: Trial, metrics: Sequence[str], names: Sequence[str]) -> list[Any]:
    scores = (score_cell(metric, trial.metrics, trial.errors) for metric in metrics)
    settings = dict(settings_rows(trial.config))
    cells = [settings.get(name, "-") for name in names] or [settings_cell(trial.config)]
    return [trial.number, trial.status, *scores, trial.epochs, *cells, reason_cell(trial.reason)]


def tally(trials: Sequence[Trial]) -> str:
    """Return how many trials there are of each status: `30 DONE, 2 FAILED`."""
    counts = Counter(trial.status for trial in trials)
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def trials_fragment(trials: Sequence[Trial]) -> Markup:
    """Return a fragment of trials, in their order, with all metrics that the first of them have."""
    metrics = dict.fromkeys(name for trial in trials[:BEST] if has_score(trial) for name in trial.metrics)
    content = [trials_table(trials, list(metrics))] if trials else []
    return fragment(": ".join(filter(None, [plural(len(trials), "trial"), tally(trials)])), *content)


def history_parts(history: Any) -> list[Markup | None]:
    """Return the best score and the best trials of a history, for a fragment."""
    objective, scored = history.objective, [trial for trial in history.finished if has_score(trial)]
    if not scored:
        return [note(tally(history.trials))]
    if objective.several:
        shown, text = history.front, f"{plural(len(history.front), 'trial')} on the front"
    else:
        shown = nsmallest(BEST, scored, key=history.rank)
        text = _best(history)
    more = note(f"the best {len(shown)} of {len(history):,} trials") if len(shown) < len(history) else None
    return [element("p", text), note(tally(history.trials)), trials_table(shown, objective.metrics), more]


def _best(history: Any) -> str:
    leader, metric = history.leader, history.objective.metric
    if leader is None:
        return "no trial is within the limits"
    return f"best {metric} {score_cell(metric, leader.metrics, leader.errors)} by trial {leader.number}"
