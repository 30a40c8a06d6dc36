"""The verb export: everything that a study's folder knows of its trials, for other programs."""

import argparse
from typing import Any

from tuneflow.commands.parser import add_folder, added
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "print a study's folder as JSON lines: what it was made with, then every trial with its reports"
    verb = added(verbs, "export", text, run, "export runs/digits > digits.jsonl")
    add_folder(verb)
    verb.add_argument("--jsonl", action="store_true", help="JSON lines, the default")


def run(options: argparse.Namespace) -> None:
    """Print the folder."""
    for line in Archive(options.folder).lines():
        print(line)
