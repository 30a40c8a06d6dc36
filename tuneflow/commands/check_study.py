"""The verb check: whether a study's folder is whole."""

import argparse
from typing import Any

from tuneflow.analysis.json_text import json_text
from tuneflow.analysis.score_text import printable
from tuneflow.commands.outcome import FAILED
from tuneflow.commands.parser import add_folder, add_json, added
from tuneflow.errors import plural
from tuneflow.study.folder_check import check_folder


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "read everything in a study's folder and say what is damaged or missing; nothing is changed"
    verb = added(verbs, "check", text, run, "check runs/digits")
    add_folder(verb)
    add_json(verb)


def run(options: argparse.Namespace) -> int:
    """Print what is wrong; return 1 where something is."""
    checked = check_folder(options.folder)
    if options.json:
        facts = {"folder": str(checked.folder), "trials": checked.trials, "states": checked.states}
        print(json_text({**facts, "problems": list(checked.problems)}))
    else:
        counts = f"{plural(checked.trials, 'trial')}, {plural(checked.states, 'state')}"
        result = "nothing is wrong" if not checked.problems else plural(len(checked.problems), "problem")
        print(*map(printable, [f"{checked.folder}: {counts}: {result}", *checked.problems]), sep="\n")
    return FAILED if checked.problems else 0
