"""The verb report: a study's folder as a page."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tuneflow.analysis.record import StudyRecord
from tuneflow.commands.parser import add_folder, added, as_path
from tuneflow.errors import printable
from tuneflow.pages.watched_report import watch
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "write a study's folder as a page to look at"
    verb = added(verbs, "report", text, run, "report runs/digits --out digits.html")
    add_folder(verb)
    verb.add_argument("--out", type=as_path, default=Path("report.html"), help="the file; default %(default)s")
    text = "write it again every few seconds until nothing runs any more; the open page follows by itself"
    verb.add_argument("--watch", action="store_true", help=text)


def run(options: argparse.Namespace) -> None:
    """Write the page, once or again and again."""
    if not options.watch:
        print(printable(str(Archive(options.folder).report(options.out))))
        return

    def read() -> tuple[StudyRecord, bool]:
        archive = Archive(options.folder)
        return archive.record(), archive.busy

    watch(read, options.out, lambda: _begin(options.out))


def _begin(page: Path) -> None:
    print(printable(str(page)), flush=True)
    print("watching; ends when nothing runs any more, or by Ctrl-C", file=sys.stderr, flush=True)
