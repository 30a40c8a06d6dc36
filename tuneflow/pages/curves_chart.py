"""The learning curves of a study: all trials in grey, the three best by name."""

from collections.abc import Sequence

from tuneflow.analysis.curve_lines import CurveLine, curve_lines, thinned, three_best
from tuneflow.analysis.record import StudyRecord
from tuneflow.errors import plural
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import Point, dots_of, line_of, pixels, trials_path
from tuneflow.markup.scales import Axis, score_axis
from tuneflow.markup.texts import spread_out, text_at
from tuneflow.pages.section import PageSection

WIDTH, HEIGHT = 560, 300
MARGINS = (24, 92, 40, 56)  # the names of the best stand to the right of the plane
CURVES = 400  # that are drawn, the best among them
MANY = 60  # curves from which on each is pale
POINTS = 8_000  # of all curves together
SHORTEST = 6  # points of a curve, at least
NAMED = 3  # of a front, whose lines have names
LINE = 14  # pixels from one name to the next


def curves(record: StudyRecord) -> PageSection | None:
    """Return the metric over the epochs of every trial; None where no trial has trained for two."""
    metric, _ = record.objective.goals[0]
    lines = curve_lines(record, metric)
    if max((epoch for line in lines for epoch, _ in line.points), default=0) < 2:
        return None
    best = [trial.number for trial in record.front][:NAMED] if record.objective.several else three_best(record)
    shown = _shown(lines, best)
    left_out = f" {len(shown)} of {len(lines)} are drawn." if len(shown) < len(lines) else ""
    note = (
        f"Dashed where a trial was stopped; a fork begins on its parent's line; dots are epochs that count.{left_out}"
    )
    figure = element("figure", _chart(record, shown, best))
    return PageSection("curves", "Learning curves", figure, note, half=True)


def _shown(lines: Sequence[CurveLine], best: Sequence[int]) -> list[CurveLine]:
    """Return as many curves as are drawn, the best ones last, with as many points as there is room for."""
    named = [line for number in reversed(best) for line in lines if line.trial.number == number]
    others = thinned([line for line in lines if line.trial.number not in best], CURVES - len(named))
    most = max(SHORTEST, POINTS // (len(others) + len(named)))
    return [CurveLine(line.trial, tuple(thinned(line.points, most))) for line in (*others, *named)]


def _chart(record: StudyRecord, lines: Sequence[CurveLine], best: Sequence[int]) -> Markup:
    metric, maximize = record.objective.goals[0]
    last = max(epoch for line in lines for epoch, _ in line.points)
    across = Axis(min(1, *(line.points[0][0] for line in lines)), last, whole=True)
    up = score_axis([value for line in lines for _, value in line.points], maximize)
    frame = Frame(across, up, WIDTH, HEIGHT, MARGINS, ("epochs", metric))
    others = [line for line in lines if line.trial.number not in best]
    named = [line for line in lines if line.trial.number in best]
    stopped = [line for line in others if line.trial.status == "STOPPED"]
    kept = [line for line in others if line.trial.status != "STOPPED"]
    label = f"{metric} by epoch of {plural(len(lines), 'trial')}"
    many = " many" * (len(others) > MANY)
    groups = (_paths(frame, stopped, f"lines stopped{many}"), _paths(frame, kept, f"lines{many}"))
    chosen = _chosen(record, frame, named, metric)
    return frame.svg(*groups, *_named(frame, named), chosen, _names(frame, named), label=label)


def _paths(frame: Frame, lines: Sequence[CurveLine], kind: str) -> Markup | None:
    rough = len(lines) > MANY
    return trials_path("".join(_path(frame.points(line.points), rough) for line in lines), _numbers(lines), kind)


def _named(frame: Frame, lines: Sequence[CurveLine]) -> list[Markup | None]:
    return [_paths(frame, [line], f"lines best{' stopped' * (line.trial.status == 'STOPPED')}") for line in lines]


def _chosen(record: StudyRecord, frame: Frame, lines: Sequence[CurveLine], metric: str) -> Markup | None:
    """Return a dot on each line at the epoch that counts for its trial."""
    epochs = {line.trial.number: record.objective.pick(line.trial.reports) for line in lines}
    dots = [(one.epoch, one.metrics[metric]) for one in epochs.values() if one is not None]
    return trials_path(dots_of(frame.points(dots)), [number for number, one in epochs.items() if one], "dots best")


def _numbers(lines: Sequence[CurveLine]) -> list[int]:
    return [line.trial.number for line in lines]


def _path(points: Sequence[Point], rough: bool) -> str:
    """Return the path of a curve; a single point is a stroke long enough to be seen as dashed."""
    if len(points) > 1:
        return line_of(points, rough)
    x, y = points[0]
    return f"M{pixels(x - 2)} {pixels(y)}h9"


def _names(frame: Frame, lines: Sequence[CurveLine]) -> Markup:
    """Return the names of trials at the height of their lines' ends, apart from each other."""
    ends = [frame.at(*line.points[-1]) for line in lines]
    heights = spread_out([y for _, y in ends], LINE, frame.top, frame.bottom)
    texts = []
    for line, (x, y), height in zip(lines, ends, heights, strict=True):
        leader = element("path", d=f"M{pixels(x)} {pixels(y)}L{frame.right + 6} {pixels(height)}", class_="leader")
        texts += [leader, text_at(frame.right + 9, height + 4, f"trial {line.trial.number}", "best")]
    return element("g", *texts)
