"""The timeline of a study: which worker trained which trial from when to when, and for how long it trained nothing."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import median

from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Report, Trial

BREAK = 60.0  # seconds: a longer time in which no worker reports lies between two runs, and counts as idle for none
SHARE, IN_LANES = 0.5, 2.0  # of an epoch's length that may lie between it and the one before within a span
NEAR = 0.05  # seconds that may lie there in any case
CLOSE = 0.02  # share of a span by which it may overlap another of the same row


@dataclass(frozen=True)
class Span:
    """Epochs that a worker trained of a trial, one after the other.

    Attributes:
        worker: its number; 0 for the study's own process.
        row: tells spans apart that a worker trained at once, as lanes; counted from 0.
        trial: the trial's number.
        begin, end: Unix times.
        epochs: number of epochs.
        status: the trial's.
    """

    worker: int
    row: int
    trial: int
    begin: float
    end: float
    epochs: int
    status: str


@dataclass(frozen=True)
class Timeline:
    """The spans of a study, as far as the times of its reports tell them.

    Attributes:
        spans: by their beginnings.
        runs: (begin, end) of the times in which something was trained; between them lies more than a minute.
        idle: worker to the share of these times in which it trained nothing, of 1.
        untimed: numbers of the trials that ended and have no place here: they ended before their first report, or
            their reports have no time.
    """

    spans: tuple[Span, ...]
    runs: tuple[tuple[float, float], ...]
    idle: dict[int, float]
    untimed: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the runs."""
        return _length(self.runs)


def timeline_of(record: StudyRecord) -> Timeline:
    """Return the timeline of a study.

    An epoch lies before the time of its report, as long as it took. In lanes, where an epoch's seconds are its share of
    those of all lanes, it is stretched by what the study's epochs usually take of the clock, but to no more than the
    trial's next epoch took. A clock that was set back makes spans overlap, and nothing else.
    """
    lanes = (record.facts.get("runtime") or {}).get("executor") == "fused"
    trials = [trial for trial in record.trials if trial.status != "CLAIMED"]
    stretch = _stretch(trials) if lanes else 1.0
    spans = [span for trial in trials for span in _spans_of(trial, stretch)]
    spans.sort(key=lambda span: (span.begin, span.trial))
    placed = {span.trial for span in spans}
    runs = _merged(((span.begin, span.end) for span in spans), BREAK)
    untimed = (trial.number for trial in trials if trial.ended and trial.number not in placed)
    return Timeline(tuple(_in_rows(spans)), tuple(runs), _idle(spans, _length(runs)), tuple(untimed))


def _spans_of(trial: Trial, stretch: float) -> list[Span]:
    """Return the spans of a trial; the last one lasts until the trial ended."""
    spans: list[Span] = []
    timed = [report for report in trial.reports if report.at]
    for report, after in zip_longest(timed, timed[1:]):
        new = _span(trial, report, _length_of(report, after, stretch))
        if spans and _follows(new, spans[-1], SHARE if stretch == 1 else IN_LANES):
            spans[-1] = _joined(spans[-1], new)
        else:
            spans.append(new)
    if spans:
        rest = max(0.0, trial.seconds - sum(report.seconds for report in trial.reports))
        spans[-1] = replace(spans[-1], end=spans[-1].end + rest)
    return spans


def _length_of(report: Report, after: Report | None, stretch: float) -> float:
    """Return how long an epoch took by the clock; `after` is the trial's next report."""
    stretched = report.seconds * stretch
    return stretched if after is None else max(report.seconds, min(stretched, after.at - report.at))


def _span(trial: Trial, report: Report, length: float) -> Span:
    return Span(report.worker, 0, trial.number, report.at - length, report.at, 1, trial.status)


def _follows(new: Span, before: Span, share: float) -> bool:
    """True if an epoch goes on where a span ends, in the same worker; an early one was reported late."""
    length, gap = new.end - new.begin, new.begin - before.end
    return new.worker == before.worker and new.end >= before.end and gap <= max(NEAR, share * length)


def _joined(span: Span, new: Span) -> Span:
    """Return a span with one more epoch; where the epoch overlaps it, as both were reported late, it begins earlier."""
    begin = span.begin + min(0.0, new.begin - span.end)
    return replace(span, begin=begin, end=new.end, epochs=span.epochs + 1)


def _stretch(trials: Sequence[Trial]) -> float:
    """Return how many seconds of the clock an epoch usually takes for each of its own, at least 1."""
    ratios = [
        (after.at - before.at) / after.seconds
        for trial in trials
        for before, after in zip(trial.reports, trial.reports[1:], strict=False)
        if before.at and after.at and after.seconds
    ]
    return max(1.0, median(ratios)) if ratios else 1.0


def _in_rows(spans: Iterable[Span]) -> Iterable[Span]:
    """Give each span the first row of its worker that is free when it begins."""
    ends: dict[int, list[float]] = defaultdict(list)
    for span in spans:
        rows, slack = ends[span.worker], CLOSE * (span.end - span.begin)
        row = next((row for row, end in enumerate(rows) if end <= span.begin + slack), len(rows))
        rows[row : row + 1] = [span.end]
        yield replace(span, row=row)


def _idle(spans: Sequence[Span], seconds: float) -> dict[int, float]:
    times: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for span in spans:
        times[span.worker].append((span.begin, span.end))
    return {
        worker: max(0.0, 1 - _length(_merged(times[worker], 0.0)) / seconds) if seconds else 0.0
        for worker in sorted(times)
    }


def _merged(times: Iterable[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Join intervals, sorted by their beginnings, that lie no more than `gap` apart."""
    merged: list[tuple[float, float]] = []
    for begin, end in times:
        if merged and begin - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _length(times: Iterable[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in times)
