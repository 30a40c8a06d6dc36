"""The table of parameters: range, best value, and the scores of all trials over each."""

from collections.abc import Mapping, Sequence

from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.finding import Finding
from tuneflow.analysis.importance import Importance, Share, importances
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.setting_at import setting_at
from tuneflow.analysis.short_names import short_names
from tuneflow.analysis.standing import Standing
from tuneflow.markup.axes import picture
from tuneflow.markup.html import Markup, element, joined
from tuneflow.markup.paths import pixels
from tuneflow.markup.ticks import log_label
from tuneflow.pages.section import PageSection
from tuneflow.pages.strips import strip
from tuneflow.pages.trials import setting_text
from tuneflow.space.parameters import Choice, Parameter, Range
from tuneflow.space.permutation import Permutation

MOST = 8  # options that are named
HINTS = {"edge": "at the edge", "no effect": "no effect seen"}  # by the rule that found it


def parameter_table(record: StudyRecord) -> PageSection | None:
    """Return a row for each parameter; None for a space without any, and before a trial has started."""
    if not record.space.parameters or not len(record.trials):
        return None
    standing, every = Standing(record), importances(record)
    shares = {metric: one for metric, one in every.items() if not all(share.wide for share in one.values())}
    hints = {one.parameter: one for one in advice_of(record) if one.rule in HINTS}
    metric = record.objective.metric
    best = "on the front" if record.objective.several else "best"
    names = ["parameter", "range", best, *(["importance"] if shares else []), metric, *(["hint"] if hints else [])]
    head = element("tr", *(element("th", name, scope="col") for name in names))
    rows = []
    for name, place in record.space.parameters.items():
        cells = [_shares(name, shares)] if shares else []
        hint = [_hint(hints.get(name))] if hints else []
        rows.append(_row(standing, place, [*cells, strip(standing, place), *hint]))
    table = element("table", element("thead", head), element("tbody", *rows))
    body = element("div", table, class_="scroll-x", tabindex="0", role="region", aria_label="Parameters")
    return PageSection("parameters", "Parameters", body, _note(metric, shares, len(every) - len(shares)))


def _note(metric: str, shares: Mapping[str, Importance], unclear: int) -> str:
    """Return the sentences on how to read the table, and on what the trials do not suffice for."""
    scores = f"The score of every trial over each parameter, {metric}: better ones are higher."
    few = " Not enough trials to tell how important the parameters are." if unclear else ""
    if not shares:
        return scores + few
    meaning = "Importance is the share of the variance of the score that is lost when the parameter alone is fixed"
    several = len(shares) > 1
    doubts = [f"{metric}: {doubt}" if several else f"{doubt[:1].upper()}{doubt[1:]}"
              for metric, importance in shares.items() for doubt in importance.notes]  # fmt: skip
    sentences = [f"{meaning}, with its 90 % interval.", *(f"{doubt}." for doubt in doubts)]
    return " ".join([scores, *sentences])


def _row(standing: Standing, place: int, further: Sequence[object]) -> Markup:
    record = standing.record
    coordinate = record.space.coordinates[place]
    name = ".".join(coordinate.path)
    best = [setting_at(record.trials[number].config, coordinate.path) for number in _leaders(record)]
    cells = (range_text(coordinate.whole), _values_text(best), *further)
    short = short_names(record.space.parameters, record.metrics)[name]
    return element("tr", element("th", short, scope="row", title=name), *(element("td", cell) for cell in cells))


def _shares(name: str, shares: Mapping[str, Importance]) -> Markup:
    """Return the importance of a parameter for each objective, with a bar."""
    several = len(shares) > 1
    return joined(*(_share(importance[name], metric if several else "") for metric, importance in shares.items()))


def _share(share: Share, metric: str) -> Markup:
    interval = element("span", f"{share.low:.2f} to {share.high:.2f}")
    text = f"{metric} {share.value:.2f}".lstrip()
    return element("div", share_bar(share), element("b", text), interval, class_="share")


def share_bar(share: Share) -> Markup:
    """Return a bar as long as a share of 1 pixel in a hundred, with a line over its interval."""
    filled = element("path", d=f"M0 7h{pixels(100 * min(1.0, share.value))}", class_="filled")
    low, high = (100 * min(1.0, max(0.0, end)) for end in (share.low, share.high))
    whisker = element("path", d=f"M{pixels(low)} 7H{pixels(high)}M{pixels(low)} 4v6M{pixels(high)} 4v6", class_="axis")
    label = f"importance {share.value:.2f}, 90 % interval {share.low:.2f} to {share.high:.2f}"
    return picture(101, 14, filled, whisker, label=label, class_="bar")


def _hint(finding: Finding | None) -> str:
    return "" if finding is None else f"{HINTS[finding.rule]}: {finding.change.text}"


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
