"""The verb export: everything that a study's folder knows of its trials, for other programs."""

import argparse
from typing import Any

from tuneflow.commands.parser import add_folder, added
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = (
        "print a study's folder for other programs: as JSON lines with what it was made with and every trial, or as CSV"
    )
    verb = added(verbs, "export", text, run, "export runs/digits --csv > digits.csv")
    add_folder(verb)
    form = verb.add_mutually_exclusive_group()
    form.add_argument(
        "--jsonl", action="store_true", help="JSON lines, the default: the settings, then a line per trial"
    )
    form.add_argument("--csv", action="store_true", help="CSV with a line for each trial")
    form.add_argument("--curves", action="store_true", help="CSV with a line for each epoch of each trial")


def run(options: argparse.Namespace) -> None:
    """Print the folder."""
    archive = Archive(options.folder)
    if options.csv or options.curves:
        print((archive.curves() if options.curves else archive.table()).to_csv(), end="")
        return
    for line in archive.lines():
        print(line)
