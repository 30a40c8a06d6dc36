"""The table of all trials."""

from collections.abc import Iterable, Sequence
from typing import Any

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.setting_at import setting_at
from tuneflow.analysis.short_names import short_names
from tuneflow.errors import plural
from tuneflow.history.trial import Trial
from tuneflow.markup.html import Markup, element, joined
from tuneflow.pages.section import PageSection

REASON = 160  # characters that are shown of a reason
CELL = Markup("<td>")  # ends where the next one begins, or the row; in this table that is a fifth of its size
TALL = 50  # rows from which on the table has a height of its own, in which it scrolls
ROWS = 300  # that a browser lays out; the page keeps the others for its script
NONE = "-"  # in the place of a value that there is not


def trials(record: StudyRecord) -> PageSection | None:
    """Return a row for each trial, the best first; None without trials."""
    if not len(record.trials):
        return None
    paths = [record.space.coordinates[place].path for place in record.space.parameters.values()]
    rows = [_row(record.metrics, paths, trial) for trial in _ranked(record)]
    further = element("template", *rows[ROWS:]) if len(rows) > ROWS else None
    table = element("table", _head(record), element("tbody", *rows[:ROWS]), further, class_="sortable")
    kind = "scroll" if len(rows) > TALL else "scroll-x"
    body = joined(element("div", table, class_=kind, tabindex="0"), _more(len(rows)))
    return PageSection("trials", "Trials", body, f"{plural(len(rows), 'trial')}; a heading sorts them.")


def _more(count: int) -> Markup | None:
    """Return the sentence on rows that are not shown."""
    if count <= ROWS:
        return None
    button = element("button", "Show all", type="button", hidden=True)
    return element("p", f"{ROWS} of {count:,} rows are shown. ", button, class_="more")


def _ranked(record: StudyRecord) -> list[Trial]:
    """Return the trials with a score, the best first or by number where there is no best, then the others."""
    history = record.history
    if record.objective.several:
        front = {trial.number for trial in record.front}
        return sorted(record.trials, key=lambda trial: (trial.number not in front, trial.number))
    return sorted(record.trials, key=lambda trial: (not trial.ended, *history.rank(trial), trial.number))


def _head(record: StudyRecord) -> Markup:
    goals = dict(record.objective.goals)
    columns = ["trial", "status", *record.metrics, "epochs", "seconds", *_parameters(record), "reason"]
    titles = {short: name for name, short in short_names(record.space.parameters, record.metrics).items()}
    sort = {} if record.objective.several else {record.objective.metric: _direction(goals)}
    cells = (element("th", name, scope="col", title=titles.get(name), aria_sort=sort.get(name)) for name in columns)
    return element("thead", element("tr", *cells))


def _parameters(record: StudyRecord) -> Iterable[str]:
    return short_names(record.space.parameters, record.metrics).values()


def _direction(goals: dict[str, bool]) -> str:
    return "descending" if next(iter(goals.values())) else "ascending"


def _row(metrics: Sequence[str], paths: Sequence[Sequence[str]], trial: Trial) -> Markup:
    scores = (rounded_text(trial.metrics[name], trial.errors.get(name, 0.0)) if name in trial.metrics else NONE
              for name in metrics)  # fmt: skip
    spent = (trial.epochs, f"{trial.seconds:.1f}" if trial.seconds else NONE)
    settings = (setting_text(setting_at(trial.config, path)) for path in paths)
    cells = (trial.status.lower(), *scores, *spent, *settings, _cut(_reason(trial)))
    opened = (part for cell in cells for part in (CELL, cell))
    return element("tr", element("th", trial.number), *opened, id=f"trial-{trial.number}")


def setting_text(value: Any) -> str:
    """Return a setting as text, a number with four digits; a dash where it is not active."""
    if value is None:
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _reason(trial: Trial) -> str:
    """Return why a trial ended, and where it came from."""
    verb = "extends" if trial.extends else "forked from"
    origin = "" if trial.parent is None else f"{verb} trial {trial.parent[0]} at epoch {trial.parent[1]}"
    repeats = "" if trial.repeats is None else f"repeats trial {trial.repeats}"
    return "; ".join(filter(None, [trial.reason, origin, repeats]))


def _cut(text: str) -> str:
    return text if len(text) <= REASON else f"{text[:REASON]}..."
