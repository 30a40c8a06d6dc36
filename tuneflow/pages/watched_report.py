"""A report that is written anew while its study runs."""

import time
from collections.abc import Callable
from pathlib import Path

from tuneflow.analysis.record import StudyRecord
from tuneflow.pages.write_report import write_report

Read = Callable[[], tuple[StudyRecord, bool]]  # the study, and True while a process works on it

SECONDS = 3.0  # from one page to the next, at least
SHARE = 0.05  # of the time, at most, goes into reading and writing: the study may need the same cores
IDLE = 3  # pages in a row at which nothing ran, after which nothing is taken to follow


def watch(
    read: Read,
    path: Path,
    begun: Callable[[], None] = lambda: None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Write the report of a study again and again until nothing runs any more.

    The last page does not read itself anew. KeyboardInterrupt ends it in the same way. A study without trials is
    waited for.

    Args:
        read: reads the study.
        path: the file.
        begun: called once the first page is there.
        wait: waits for so many seconds.

    Raises:
        StoreError: the study cannot be read, or the file not written.
    """
    pause, idle = SECONDS, 0
    try:
        while idle < IDLE:
            start = time.perf_counter()
            record, busy = read()
            idle = 0 if busy or not len(record.trials) else idle + 1
            write_report(record, path, pause if idle < IDLE else 0.0)
            begun()
            begun = _nothing
            pause = max(SECONDS, round((time.perf_counter() - start) / SHARE, 1))
            if idle < IDLE:
                wait(SECONDS if idle else pause)  # where nothing runs, nothing else needs the cores
    except KeyboardInterrupt:
        write_report(read()[0], path)


def _nothing() -> None:
    """Do nothing: the first page was there already."""
