"""The file of a report, written at once so that a reader sees the old page or the new one."""

from os import PathLike
from pathlib import Path

from tuneflow.analysis.record import StudyRecord
from tuneflow.pages.report import page
from tuneflow.store.checkpoints import write_bytes
from tuneflow.store.folder import path_of


def write_report(record: StudyRecord, path: str | PathLike[str], refresh: float = 0.0) -> Path:
    """Write the report of a study, and return where it is.

    Args:
        record: the study's.
        path: the file; one that is there is replaced.
        refresh: seconds after which the page reads its file anew; 0 for never.

    Raises:
        StoreError: the file cannot be written.
    """
    target = path_of("report: path", path).expanduser()
    write_bytes(target, page(record, refresh).encode())
    return target
