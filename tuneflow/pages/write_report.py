"""The file of a report, written at once so that a reader sees the old page or the new one."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from tuneflow.analysis.record import Recorded, StudyRecord, record_of
from tuneflow.pages.comparison import comparison
from tuneflow.pages.report import page
from tuneflow.store.atomic_file import write_bytes
from tuneflow.validate import path_of


def write_report(
    record: StudyRecord,
    path: str | PathLike[str],
    refresh: float = 0.0,
    beside: Sequence[StudyRecord | Recorded] = (),
) -> Path:
    """Write the report of a study, or of several beside each other, and return where it is.

    Args:
        record: the study's.
        path: the file; one that is there is replaced.
        refresh: seconds after which the page reads its file anew; 0 for never.
        beside: studies, opened folders or records to compare it with; without any it is the report of the one study.

    Raises:
        StoreError: the file cannot be written.
        ValueError: the studies do not have the same objective.
        TypeError: `beside` is no list of studies.
    """
    target = path_of("report: path", path)
    others = _records(beside)
    write_bytes(target, (comparison([record, *others]) if others else page(record, refresh)).encode(errors="replace"))
    return target


def _records(beside: Any) -> list[StudyRecord]:
    studies = list(beside) if isinstance(beside, Iterable) and not isinstance(beside, str) else [beside]
    for study in studies:
        if not isinstance(study, StudyRecord) and not callable(getattr(study, "record", None)):
            raise TypeError(
                f"report: beside needs a list of studies, got {study!r} in it; tn.open(folder) reads one that is kept."
            )
    return [record_of(study) for study in studies]
