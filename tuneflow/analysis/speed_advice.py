"""Advice on speed: lanes, precision or layout, as far as their gain was measured while the study ran."""

from collections.abc import Iterator

from tuneflow.analysis.finding import Adjustment, Finding
from tuneflow.analysis.record import StudyRecord


def speed_advice(record: StudyRecord) -> Iterator[Finding]:
    """Yield a finding for each gain that was measured; the runtime is the user's to change."""
    for gain in record.gains:
        fact = f"speed: with other {gain.kind} trials like these train {gain.gain:.1f}x as fast, as measured in a run"
        yield Finding("speed", fact, Adjustment(f"set {gain.setting}"), {gain.kind: gain.gain})
