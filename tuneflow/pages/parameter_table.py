"""The table of parameters: range, best value, and the scores of all trials over each."""

from collections.abc import Sequence

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.setting_at import setting_at
from tuneflow.analysis.short_names import short_names
from tuneflow.analysis.standing import Standing
from tuneflow.markup.html import Markup, element
from tuneflow.markup.ticks import log_label
from tuneflow.pages.section import PageSection
from tuneflow.pages.strips import strip
from tuneflow.pages.trials import setting_text
from tuneflow.space.parameters import Choice, Parameter, Range
from tuneflow.space.permutation import Permutation

MOST = 8  # options that are named


def parameter_table(record: StudyRecord) -> PageSection | None:
    """Return a row for each parameter; None for a space without any, and before a trial has started."""
    if not record.space.parameters or not len(record.trials):
        return None
    standing = Standing(record)
    names = short_names(record.space.parameters)
    metric = record.objective.goals[0][0]
    best = "on the front" if record.objective.several else "best"
    head = element("tr", *(element("th", name, scope="col") for name in ("parameter", "range", best, metric)))
    rows = (_row(standing, place, names[name], name) for name, place in record.space.parameters.items())
    table = element("table", element("thead", head), element("tbody", *rows))
    body = element("div", table, class_="scroll-x", tabindex="0", role="region", aria_label="Parameters")
    return PageSection(
        "parameters", "Parameters", body, f"{metric} of every trial over each parameter, better ones higher."
    )


def _row(standing: Standing, place: int, short: str, name: str) -> Markup:
    record = standing.record
    coordinate = record.space.coordinates[place]
    best = [setting_at(record.trials[number].config, coordinate.path) for number in _leaders(record)]
    cells = (range_text(coordinate.whole), _values_text(best), strip(standing, place))
    return element("tr", element("th", short, scope="row", title=name), *(element("td", cell) for cell in cells))


def _leaders(record: StudyRecord) -> list[int]:
    """Return the number of the best trial, or those of the front."""
    if record.objective.several:
        return [trial.number for trial in record.history.front]
    return [] if record.best is None else [record.best.number]


def _values_text(values: Sequence[object]) -> str:
    """Return values as text: the one, or the range of several numbers, or all labels."""
    active = [value for value in values if value is not None]
    if len(active) > 1 and all(type(value) in (int, float) for value in active):
        low, high = min(active), max(active)  # type: ignore[type-var]
        return setting_text(low) if low == high else f"{setting_text(low)} to {setting_text(high)}"
    return ", ".join(dict.fromkeys(map(setting_text, active))) or setting_text(None)


def range_text(parameter: Parameter) -> str:
    """Return the values of a parameter in words.

    Example:
        >>> from tuneflow import Float
        >>> range_text(Float(1e-5, 0.1, log=True))
        '1e-5 to 0.1, log'
    """
    if isinstance(parameter, Range):
        step = "" if parameter.step is None else f", step {log_label(parameter.step)}"
        return f"{log_label(parameter.low)} to {log_label(parameter.high)}{', log' if parameter.log else ''}{step}"
    if isinstance(parameter, Choice):
        return _listed([str(value) for value in parameter.values], " < " if parameter.ordered else ", ")
    if isinstance(parameter, Permutation):
        return f"orders of {_listed([str(value) for value in parameter.values], ', ')}"
    return repr(parameter)


def _listed(labels: list[str], between: str) -> str:
    more = f" and {len(labels) - MOST} more" if len(labels) > MOST else ""
    return between.join(labels[:MOST]) + more
