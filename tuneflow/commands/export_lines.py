"""The verb export: everything that a study's folder knows of its trials, for other programs."""

import argparse
from pathlib import Path
from typing import Any

from tuneflow.analysis.score_text import printable
from tuneflow.commands.outcome import FAILED
from tuneflow.commands.parser import add_folder, added, as_path
from tuneflow.study.archive import Archive
from tuneflow.study.backup import back_up


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "print a study's folder for other programs, as JSON lines with all it knows or as CSV, or copy it"
    verb = added(verbs, "export", text, run, "export runs/digits --csv > digits.csv")
    add_folder(verb)
    form = verb.add_mutually_exclusive_group()
    form.add_argument(
        "--jsonl", action="store_true", help="JSON lines, the default: the settings, then a line per trial"
    )
    form.add_argument("--csv", action="store_true", help="CSV with a line for each trial")
    form.add_argument("--curves", action="store_true", help="CSV with a line for each epoch of each trial")
    form.add_argument(
        "--backup", metavar="TO", type=as_path, help="copy the folder to a new one, also while the study runs"
    )


def run(options: argparse.Namespace) -> int | None:
    """Print the folder, or copy it; return 1 where something is wrong with the copy."""
    if options.backup:
        return _back_up(options.folder, options.backup)
    archive = Archive(options.folder)
    if options.csv or options.curves:
        print((archive.curves() if options.curves else archive.table()).to_csv(), end="")
        return None
    for line in archive.lines():
        print(line)
    return None


def _back_up(folder: Path, to: Path) -> int:
    checked = back_up(folder, to)
    print(*map(printable, checked.lines()), sep="\n")
    return FAILED if checked.problems else 0
