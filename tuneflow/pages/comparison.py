"""The page of several studies: their best scores so far, beside each other."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from tuneflow.analysis.best_so_far import Unit
from tuneflow.analysis.methods import MeanLine, Method, common_budget, difference, leader_of, methods_of, units_of
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.errors import listed, plural
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import band_of, line_of
from tuneflow.markup.scales import Axis, score_axis
from tuneflow.markup.texts import spread_out, text_at
from tuneflow.metrics.measured import interval_text
from tuneflow.pages.document import document
from tuneflow.pages.section import PageSection
from tuneflow.pages.times import duration
from tuneflow.pages.trials import NONE

SIZE = (560, 320)
COLORS = 6  # of methods, after which they repeat
NAMED = 24  # letters of a name at the end of a line
BOLD = 7.6  # pixels of a letter of it


def comparison(records: Sequence[StudyRecord]) -> str:
    """Return the page of several studies as the text of an HTML file.

    Raises:
        ValueError: they have several objectives, or not the same one.
    """
    methods = methods_of(records)
    panels = [panel for unit in units_of(methods) if (panel := _panel(methods, unit)) is not None]
    note = _note(methods) if panels else "No study has a score yet."
    sections = [
        PageSection("best", "Best so far", element("div", *panels, class_="charts"), note),
        PageSection("differences", "At the same cost", _table(methods), _words(methods)),
        PageSection("studies", "Studies", _studies(methods)),
    ]
    title = f"{plural(len(methods), 'method')} of {len(records)} studies"
    heading = element("header", element("h1", title), *(element("p", text) for text in _outcome(methods)))
    return document("tuneflow comparison", heading, sections)


def _note(methods: Sequence[Method]) -> str:
    counts = sorted({len(method.records) for method in methods})
    if counts == [1]:
        return "One study of each method."
    number = " to ".join(map(str, counts[:: len(counts) - 1] if len(counts) > 1 else counts))
    return f"Means over {number} studies of each method; the band is one standard error to both sides."


def _panel(methods: Sequence[Method], unit: Unit) -> Markup | None:
    lines = [method.line(unit) for method in methods]
    drawn = [line for line in lines if len(line.spent)]
    end = max((float(line.spent[-1]) for line in drawn), default=0.0)
    if not end:
        return None
    metric, maximize = methods[0].records[0].objective.goals[0]
    names = [method.name if len(method.name) <= NAMED else f"{method.name[: NAMED - 1]}…" for method in methods]
    right = 16 + int(BOLD * max(map(len, names)))
    titles = (f"{unit} of training" if unit == "seconds" else unit, metric)
    frame = Frame(Axis(0, end, whole=unit != "seconds"), _axis(drawn, maximize), *SIZE, (24, right, 40, 56), titles)
    content = [_line(frame, line, place % COLORS) for place, line in enumerate(lines) if len(line.spent)]
    label = f"best {metric} so far over {unit}, of {plural(len(methods), 'method')}"
    return element("figure", frame.svg(*content, *_ends(frame, lines, names), label=label))


def _axis(lines: Sequence[MeanLine], maximize: bool) -> Axis:
    values = [end for line in lines for end in (*_edges(line)[0], *_edges(line)[1])]
    return score_axis(values, maximize)


def _edges(line: MeanLine) -> tuple[list[float], list[float]]:
    error = np.nan_to_num(line.error)
    return (line.mean - error).tolist(), (line.mean + error).tolist()


def _line(frame: Frame, line: MeanLine, color: int) -> Markup:
    """Return a method's steps with their band."""
    spent, (low, high) = line.spent.tolist(), _edges(line)
    band = band_of(_steps(frame, spent, high), _steps(frame, spent, low)) if high != low else ""
    steps = line_of(_steps(frame, spent, line.mean.tolist()))
    return element(
        "g",
        element("path", d=band, class_="band") if band else None,
        element("path", d=steps, class_="lines best"),
        class_=f"method{color}",
    )


def _steps(frame: Frame, spent: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    points = frame.points(zip(spent, values, strict=True))
    corners = [(after[0], before[1]) for before, after in pairwise(points)]
    return points[:1] + [point for pair in zip(corners, points[1:], strict=True) for point in pair]


def _ends(frame: Frame, lines: Sequence[MeanLine], names: Sequence[str]) -> list[Markup]:
    """Return the name of each method at the end of its line."""
    drawn = [place for place, line in enumerate(lines) if len(line.spent)]
    ys = spread_out([frame.y(float(lines[place].mean[-1])) for place in drawn], 15, frame.top, frame.bottom)
    return [
        element("g", text_at(frame.right + 8, y + 4, names[place], "best"), class_=f"method{place % COLORS}")
        for place, y in zip(drawn, ys, strict=True)
    ]


def _outcome(methods: Sequence[Method]) -> list[str]:
    """Return sentences on which method leads, and from which others it differs clearly; costs that agree are one."""
    costs: dict[str, list[str]] = {}
    for unit, budget in _budgets(methods).items():
        costs.setdefault(_standing(methods, unit, budget), []).append(_cost(unit, budget))
    return [f"At {' and at '.join(same)}, {text}" for text, same in costs.items() if text]


def _standing(methods: Sequence[Method], unit: Unit, budget: float) -> str:
    leader = leader_of(methods, unit, budget)
    if leader is None or len(methods) == 1:
        return ""
    maximize = leader.records[0].objective.maximize
    found = {m.name: difference(m, leader, unit, budget) for m in methods if m is not leader}
    behind = [name for name, gap in found.items() if gap.verdict(maximize) == "worse"]
    others = [name for name, gap in found.items() if name not in behind and math.isfinite(gap.value)]
    clear = f", clearly before {listed(behind)}" if behind else ""
    return f"{leader.name} leads{clear}{f', not clearly before {listed(others)}' if others else ''}."


def _budgets(methods: Sequence[Method]) -> dict[Unit, float]:
    return {unit: common_budget(methods, unit) for unit in units_of(methods)}


def _cost(unit: Unit, budget: float) -> str:
    return duration(budget) if unit == "seconds" else plural(int(budget), unit.removesuffix("s"))


def _words(methods: Sequence[Method]) -> str:
    """Return the sentence on the differences: at which costs, and how they are paired."""
    shared = [difference(other, methods[0], "trials", 0.0).seeds for other in methods[1:]]
    pairs = "paired by seed" if min(shared, default=0) > 1 else "not paired, as they do not share two seeds"
    text = (
        "At what all studies have spent, with standard errors. Differences are from the method that leads, with 95 %"
        f" intervals by Student's t, {pairs}."
    )
    single = any(len(method.records) == 1 for method in methods)
    return f"{text} One study of a method does not tell what is luck; more seeds do." if single else text


def _table(methods: Sequence[Method]) -> Markup:
    budgets = _budgets(methods)
    leaders = {unit: leader_of(methods, unit, budget) for unit, budget in budgets.items()}
    names = ["method", "seeds"] + [
        text for unit in budgets for text in (f"at {_cost(unit, budgets[unit])}", "difference")
    ]
    head = element("tr", *(element("th", name, scope="col") for name in names))
    rows = (_row(method, leaders, budgets) for method in methods)
    table = element("table", element("thead", head), element("tbody", *rows))
    return element("div", table, class_="scroll-x", tabindex="0", role="region", aria_label="Differences")


def _row(method: Method, leaders: Mapping[Unit, Method | None], budgets: Mapping[Unit, float]) -> Markup:
    cells = [element("td", len(method.records))]
    for unit, budget in budgets.items():
        cells += [element("td", _score(method, unit, budget)), _difference(method, leaders[unit], unit, budget)]
    return element("tr", element("th", method.name, scope="row"), *cells)


def _score(method: Method, unit: Unit, budget: float) -> str:
    mean, error = method.mean_at(unit, budget)
    return rounded_text(mean, error) if math.isfinite(mean) else NONE


def _difference(method: Method, leader: Method | None, unit: Unit, budget: float) -> Markup:
    """Return the difference from the method that leads, and what it means for the one in whose row it stands."""
    if leader is None or method is leader:
        return element("td", NONE if leader is None else "leads")
    found = difference(method, leader, unit, budget)
    if not math.isfinite(found.value):
        return element("td", NONE)
    text = f"{'+' if found.value > 0 else ''}{interval_text(found.estimate)}"
    return element("td", text, element("span", found.verdict(method.records[0].objective.maximize)))


def _studies(methods: Sequence[Method]) -> Markup:
    """Return a row for each study, with its own best."""
    head = element("tr", *(element("th", name, scope="col") for name in ("study", "method", "seed", "trials", "best")))
    rows = []
    for method in methods:
        for record in method.records:
            cells = (method.name, record.history.seed, len(record.trials), _best(record))
            name = element("th", record.name, scope="row")
            rows.append(element("tr", name, *(element("td", cell) for cell in cells)))
    table = element("table", element("thead", head), element("tbody", *rows), class_="sortable")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Studies")


def _best(record: StudyRecord) -> str:
    best, metric = record.history.leader, record.objective.metric
    return NONE if best is None else rounded_text(best.metrics[metric], best.errors.get(metric, math.nan))
