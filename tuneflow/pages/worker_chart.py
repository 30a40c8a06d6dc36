"""The timeline: which worker trained which trial from when to when."""

from collections.abc import Sequence

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.standing import Standing
from tuneflow.analysis.timeline import Span, Timeline, timeline_of
from tuneflow.errors import plural
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import line_of, pixels, trials_path
from tuneflow.markup.scales import Axis
from tuneflow.markup.texts import LETTER, text_at
from tuneflow.pages.section import PageSection
from tuneflow.pages.times import duration

WIDTH, ROW, BAR = 1120, 22, 16  # pixels: of the chart, of a row, of a bar
MARGINS = (8, 70, 40, 80)
UNITS = ((172_800, 86_400, "days"), (7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))


def worker_chart(record: StudyRecord) -> PageSection | None:
    """Return the timeline of a study's workers; None where the times of its epochs are not known."""
    timeline = timeline_of(record)
    if not timeline.spans:
        return None
    chart = element("figure", _chart(record, timeline), tabindex="0")
    return PageSection("timeline", "Timeline", chart, _note(timeline))


def _note(timeline: Timeline) -> str:
    pauses, lost = len(timeline.runs) - 1, len(timeline.untimed)
    cut = f" Left out: {plural(pauses, 'pause')} of more than a minute." if pauses else ""
    without = f" {plural(lost, 'trial')} ended without a time." if lost else ""
    return f"{duration(timeline.seconds)} of the clock.{cut}{without}"


def _chart(record: StudyRecord, timeline: Timeline) -> Markup:
    rows = sorted({(span.worker, span.row) for span in timeline.spans})
    unit, word = next((unit, word) for least, unit, word in UNITS if timeline.seconds >= least)
    height = MARGINS[0] + ROW * len(rows) + MARGINS[2]
    across = Axis(0, timeline.seconds / unit)
    frame = Frame(across, Axis(len(rows), 0), WIDTH, height, MARGINS, titles=(f"{word} of training", ""), ticks=(10, 0))
    places = {row: number for number, row in enumerate(rows)}
    boxes = [_box(frame, timeline, span, places[span.worker, span.row], unit) for span in timeline.spans]
    bars = _bars(timeline.spans, boxes, set(Standing(record).best))
    words = (text for span, box in zip(timeline.spans, boxes, strict=True) for text in _number(span, box))
    label = f"timeline of {plural(len(timeline.idle), 'worker')} and {plural(len(timeline.spans), 'span')} of training"
    return frame.svg(
        *bars, *_breaks(frame, timeline, unit), *words, *_names(frame, timeline, rows), label=label, class_="wide bars"
    )


def _clock(timeline: Timeline, at: float) -> float:
    """Return the seconds of training on the clock until a time, without those between runs."""
    return sum(min(at, end) - begin for begin, end in timeline.runs if begin < at)


Box = tuple[float, float, float, float]  # left, top, right and bottom, in pixels


def _box(frame: Frame, timeline: Timeline, span: Span, row: int, unit: float) -> Box:
    left, right = (frame.x(_clock(timeline, at) / unit) for at in (span.begin, span.end))
    top = frame.top + ROW * row + (ROW - BAR) / 2
    return left, top, max(right - 1, left + 1), top + BAR


def _bars(spans: Sequence[Span], boxes: Sequence[Box], best: set[int]) -> list[Markup | None]:
    """Return the spans as bars, in groups by the trials' standing."""
    groups: dict[str, list[int]] = {"bars": [], "bars stopped": [], "bars bad": [], "bars best": []}
    for place, span in enumerate(spans):
        groups["bars best" if span.trial in best else KINDS.get(span.status, "bars bad")].append(place)
    return [
        trials_path("".join(_path(boxes[place]) for place in places), (spans[place].trial for place in places), kind)
        for kind, places in groups.items()
    ]


KINDS = {"DONE": "bars", "RUNNING": "bars", "STOPPED": "bars stopped", "PAUSED": "bars stopped"}


def _path(box: Box) -> str:
    left, top, right, bottom = box
    return line_of([(left, top), (right, top), (right, bottom), (left, bottom)]) + "Z"


def _number(span: Span, box: Box) -> list[Markup]:
    """Return the number of a span's trial where its bar has room for it."""
    text = str(span.trial)
    wide = box[2] - box[0] > LETTER * len(text) + 6
    return [text_at((box[0] + box[2]) / 2, box[3] - 4, text, "tick middle")] if wide else []


def _breaks(frame: Frame, timeline: Timeline, unit: float) -> list[Markup]:
    """Return a mark between each two runs."""
    places = (frame.x(_clock(timeline, begin) / unit) for begin, _ in timeline.runs[1:])
    return [element("path", d=f"M{pixels(x)} {frame.top}V{frame.bottom}", class_="mark") for x in places]


def _names(frame: Frame, timeline: Timeline, rows: Sequence[tuple[int, int]]) -> list[Markup]:
    """Return the name of each worker at its first row, and the share of time in which it had nothing to train."""
    texts = []
    for number, (worker, row) in enumerate(rows):
        if row == 0:
            y = frame.top + ROW * (number + 0.5) + 4
            idle = f"{timeline.idle[worker]:.0%} idle"
            texts.append(text_at(frame.left - 8, y, f"worker {worker}", "tick end"))
            texts.append(text_at(frame.right + 8, y, idle, "tick"))
    return texts
