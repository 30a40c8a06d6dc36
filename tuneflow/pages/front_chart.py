"""The front of several objectives: all trials over each pair of them, and a table of the members."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.standing import Standing, known
from tuneflow.history.trial import Trial
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element, joined
from tuneflow.markup.paths import dots_of, line_of, trials_path
from tuneflow.markup.texts import LETTER, text_at
from tuneflow.pages.limit_marks import limit_marks
from tuneflow.pages.section import PageSection
from tuneflow.pages.trials import NONE

LARGE, SMALL = (640, 400), (420, 300)  # of the one chart, and of one of several
MOST = 4  # objectives of which every pair has a chart
NAMED = 24  # members that have their number beside them


def front_chart(record: StudyRecord) -> PageSection | None:
    """Return the front in charts and as a table; None with one objective, and before a trial has a score."""
    front = record.history.front if record.objective.several else []
    if not front:
        return None
    count = len(record.objective.goals)
    pairs = list(combinations(range(count), 2)) if count <= MOST else []
    figures = [element("figure", _chart(record, front, pair, LARGE if count == 2 else SMALL)) for pair in pairs]
    beaten = "No other trial beats these in every objective"
    note = f"{beaten}; the line is what they reach." if count == 2 else f"{beaten}."
    return PageSection("front", "Front", joined(element("div", *figures, class_="charts"), _table(record, front)), note)


def _chart(record: StudyRecord, front: Sequence[Trial], pair: tuple[int, int], size: tuple[int, int]) -> Markup:
    """Return all trials over two objectives, the first one across."""
    first, second = (Standing(record, goal) for goal in pair)
    names = [_title(record, goal) for goal in pair]
    frame = Frame(first.plain_axis, second.plain_axis, *size, titles=(names[0], names[1]))
    parts = []
    for kind, numbers in first.groups.items():
        drawn = known(numbers, first.scores, second.scores)
        points = frame.points((first.scores[number], second.scores[number]) for number in drawn)
        parts.append(trials_path(dots_of(points), drawn, f"dots {kind}".strip()))
    line = _line(frame, record, front) if len(record.objective.goals) == 2 else None
    marks = limit_marks(frame, record.objective, names=[record.objective.goals[goal][0] for goal in pair])
    label = f"{names[1]}, over {names[0]}: {len(front)} trials on the front"
    return frame.svg(*marks, _errors(frame, record, front, pair), line, *parts, *_numbers(frame, record, front, pair),
                     label=label)  # fmt: skip


def _title(record: StudyRecord, goal: int) -> str:
    metric, maximize = record.objective.goals[goal]
    return f"{metric}, {'more' if maximize else 'less'} is better"


def _pair(record: StudyRecord, trial: Trial, pair: tuple[int, int]) -> tuple[float, float]:
    metrics = [record.objective.goals[goal][0] for goal in pair]
    return trial.metrics[metrics[0]], trial.metrics[metrics[1]]


def _line(frame: Frame, record: StudyRecord, front: Sequence[Trial]) -> Markup:
    """Return the edge of what the front beats, as steps from its best end of the first objective on."""
    points = sorted((_pair(record, trial, (0, 1)) for trial in front), reverse=record.objective.goals[0][1])
    corners = [point for a, b in pairwise(points) for point in ((b[0], a[1]), b)]
    return element("path", d=line_of(frame.points([points[0], *corners])), class_="lines best")


def _errors(frame: Frame, record: StudyRecord, front: Sequence[Trial], pair: tuple[int, int]) -> Markup | None:
    """Return a bar of one standard error to both sides for each member and each objective where it is known."""
    metrics = [record.objective.goals[goal][0] for goal in pair]
    bars = ""
    for trial in front:
        x, y = _pair(record, trial, pair)
        across, up = (trial.errors.get(metric, math.nan) for metric in metrics)
        if across > 0:
            bars += line_of(frame.points([(x - across, y), (x + across, y)]))
        if up > 0:
            bars += line_of(frame.points([(x, y - up), (x, y + up)]))
    return element("path", d=bars, class_="errors") if bars else None


def _numbers(frame: Frame, record: StudyRecord, front: Sequence[Trial], pair: tuple[int, int]) -> list[Markup]:
    """Return the numbers of the members beside their dots, of those that have room."""
    taken: list[tuple[float, float]] = []
    texts = []
    for trial in front[:NAMED]:
        x, y = frame.at(*_pair(record, trial, pair))
        if all(abs(x - a) > 4 * LETTER or abs(y - b) > 12 for a, b in taken):
            taken.append((x, y))
            texts.append(text_at(x + 7, y - 5, str(trial.number), "best halo"))
    return texts


def _table(record: StudyRecord, front: Sequence[Trial]) -> Markup:
    metrics = [metric for metric, _ in record.objective.goals]
    confirmed = {one.number: one for one in record.confirmed if not one.reason}
    seeds = [f"{metric}, fresh seeds" for metric in metrics] if confirmed else []
    names = ["trial", *(_title(record, goal) for goal in range(len(metrics))), *seeds]
    head = element("tr", *(element("th", name, scope="col") for name in names))
    rows = []
    for trial in front:
        scores = [trial, confirmed.get(trial.number)] if confirmed else [trial]
        cells = [element("td", _score(one, metric)) for one in scores for metric in metrics]
        number = element("th", element("a", trial.number, href=f"#trial-{trial.number}"), scope="row")
        rows.append(element("tr", number, *cells, data_t=trial.number))
    table = element("table", element("thead", head), element("tbody", *rows), class_="sortable")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Members of the front")


def _score(one: Trial | Confirmed | None, metric: str) -> str:
    if one is None or metric not in one.metrics:
        return NONE
    return rounded_text(one.metrics[metric], one.errors.get(metric, math.nan))
