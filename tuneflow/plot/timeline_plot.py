"""The plot of a study's timeline: which worker trained which trial, and when."""

from typing import TYPE_CHECKING

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.timeline import Span, Timeline, timeline_of
from tuneflow.errors import NothingFinished
from tuneflow.history.trial import WORTHLESS
from tuneflow.plot.canvas import Ink, axes_of, ink_of
from tuneflow.plot.subject import studied

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EACH, LEAST = 0.32, 1.6  # inches of height for each row, and of the whole
UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))  # from which length on
ROOM = 0.012  # of the whole time, that a letter of a trial's number takes


def timeline(study: Recorded | StudyRecord, ax: "Axes | None" = None) -> "Axes":
    """Draw what each worker trained and when, a bar for each time that it went on with a trial without a pause.

    Trials that ran to their end are grey, those that were stopped pale, the best one has the accent's color, those that
    failed or diverged that of failures. Where a worker trained several trials at once, as lanes, each has a row. The
    workers' names say for which share of the time they trained nothing.

    Args:
        study: a study, or a folder that `tn.open` reads.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes; the times are counted from the first epoch's beginning.

    Raises:
        NothingFinished: no epoch has a time.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    record = studied(study, "timeline")
    line = timeline_of(record)
    if not line.spans:
        raise NothingFinished("tn.plot.timeline: no epoch was trained yet whose time is known; run a trial first.")
    rows = {row: place for place, row in enumerate(sorted({(span.worker, span.row) for span in line.spans}))}
    ax = axes_of(ax, height=max(LEAST, EACH * len(rows) + 1))
    ink = ink_of(ax)
    best = {record.best.number} if record.best is not None else {trial.number for trial in record.history.front}
    start, end = line.runs[0][0], max(span.end for span in line.spans)
    unit, name = next((unit, name) for least, unit, name in UNITS if end - start >= least)
    for span in line.spans:
        _draw(ax, span, rows[span.worker, span.row], (start, unit, ROOM * (end - start)), span.trial in best, ink)
    ax.set_xlabel(f"{name} since the start")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    _name_rows(ax, line, rows)
    return ax


def _draw(ax: "Axes", span: Span, row: int, time: tuple[float, float, float], best: bool, ink: Ink) -> None:
    """Draw a span with its trial's number where there is room for it."""
    start, unit, letter = time
    length = span.end - span.begin
    color = ink.bad if span.status in WORTHLESS else ink.accent if best else ink.grey
    pale = 0.4 if span.status == "STOPPED" and not best else 1.0
    left, width = (span.begin - start) / unit, length / unit
    ax.barh(row, width, 0.7, left, color=color, alpha=pale, edgecolor=ink.ground, linewidth=0.6, label=span.status)
    if length > letter * (len(str(span.trial)) + 1):
        shade = ink.text if color == ink.grey else ink.ground
        ax.text(left + width / 2, row, str(span.trial), ha="center", va="center", fontsize="x-small", color=shade)


def _name_rows(ax: "Axes", line: Timeline, rows: dict[tuple[int, int], int]) -> None:
    """Name the first row of each worker."""
    names = ["" if row else f"worker {worker}\n{100 * line.idle[worker]:.0f} % idle" for worker, row in rows]
    ax.set_yticks(list(rows.values()), names)
    ax.tick_params("y", length=0)
