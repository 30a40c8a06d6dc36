"""The option of the verb check that trains a share of a study again."""

import argparse
from typing import Any

from tuneflow.analysis.json_text import json_text
from tuneflow.analysis.score_text import printable
from tuneflow.commands.outcome import FAILED
from tuneflow.commands.parser import whole
from tuneflow.errors import StudyError
from tuneflow.study.replay.replay_folder import replay_folder
from tuneflow.study.replay.replayed import Replayed


def add_replay(verb: argparse.ArgumentParser) -> None:
    """Give a verb the options of a replay."""
    text = "train PERCENT of the study's slices again, by its script, and compare; 100 for all"
    verb.add_argument("--replay", type=percent, metavar="PERCENT", help=text)
    text = "the script that makes the study on this folder, or the name of its module; for --replay"
    verb.add_argument("--script", metavar="FILE", help=text)
    verb.add_argument("--seed", type=whole, help="of the choice among the slices, to repeat a --replay")


def percent(text: str) -> float:
    """Parse a percentage above 0 and up to 100."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"needs a percentage above 0 and up to 100, got {text!r}")
    return number


def run_replay(options: argparse.Namespace) -> int:
    """Print what differs; return 1 where something does."""
    if options.script is None:
        raise StudyError(
            "--replay trains with the study's own code: name the script that makes the study on this folder,"
            " --script train.py."
        )
    result = replay_folder(options.folder, options.replay / 100, options.script, options.seed)
    if options.json:
        print(json_text(_facts(options, result)))
    else:
        print(*map(printable, f"{options.folder}: {result!r}".splitlines()), sep="\n")
    return 0 if result.ok else FAILED


def _facts(options: argparse.Namespace, result: Replayed) -> dict[str, Any]:
    findings = [
        {"slice": one.slice, "verdict": one.verdict, "reason": one.reason, "size": one.size} for one in result.findings
    ]
    numbers = {"slices": result.slices, "replayed": len(findings), "seed": result.seed, "ok": result.ok}
    return {"folder": str(options.folder), **numbers, "findings": findings, "remarks": list(result.remarks)}
