"""The plot of a study's timeline: which worker trained which trial, and when."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.timeline import Span, Timeline, timeline_of
from tuneflow.errors import NothingFinished
from tuneflow.history.trial import WORTHLESS
from tuneflow.plot.canvas import Color, Ink, axes_of, ink_of
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
    _draw_bars(ax, [(span, rows[span.worker, span.row], span.trial in best) for span in line.spans], (start, unit), ink)
    ax.set_xlim(0, (end - start) / unit)
    for span in line.spans:
        if span.end - span.begin > ROOM * (end - start) * (len(str(span.trial)) + 1):
            middle = ((span.begin + span.end) / 2 - start) / unit
            shade = ink.text if _color(span, span.trial in best, ink) == ink.grey else ink.ground
            row = rows[span.worker, span.row]
            ax.text(middle, row, str(span.trial), ha="center", va="center", fontsize="x-small", color=shade)
    ax.set_xlabel(f"{name} since the start")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    _name_rows(ax, line, rows)
    return ax


def _draw_bars(ax: "Axes", spans: Sequence[tuple[Span, int, bool]], time: tuple[float, float], ink: Ink) -> None:
    """Draw spans with their rows, and True for the best trial's: as one artist, as there may be thousands."""
    from matplotlib.collections import PolyCollection

    start, unit = time
    corners, colors = [], []
    for span, row, best in spans:
        (left, right), (top, bottom) = (
            ((span.begin - start) / unit, (span.end - start) / unit),
            (row - 0.35, row + 0.35),
        )
        corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        colors.append((*_color(span, best, ink), 0.4 if span.status == "STOPPED" and not best else 1.0))
    ax.add_collection(PolyCollection(corners, facecolors=colors, edgecolors=[ink.ground], linewidths=0.6))


def _color(span: Span, best: bool, ink: Ink) -> Color:
    return ink.bad if span.status in WORTHLESS else ink.accent if best else ink.grey


def _name_rows(ax: "Axes", line: Timeline, rows: dict[tuple[int, int], int]) -> None:
    """Name the first row of each worker."""
    names = ["" if row else f"worker {worker}\n{100 * line.idle[worker]:.0f} % idle" for worker, row in rows]
    ax.set_yticks(list(rows.values()), names)
    ax.tick_params("y", length=0)
