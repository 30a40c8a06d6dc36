"""The verb report: a study's folder as a page."""

import argparse
from typing import Any

from tuneflow.commands.parser import add_folder, added
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "write a study's folder as a page to look at"
    verb = added(verbs, "report", text, run, "report runs/digits --out digits.html")
    add_folder(verb)
    verb.add_argument("--out", default="report.html", help="the file; default %(default)s")


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    print(Archive(options.folder).report(options.out))
