"""The verb check: whether a study's folder is whole, and its file system fit for one."""

import argparse
from typing import Any

from tuneflow.analysis.json_text import json_text
from tuneflow.analysis.score_text import printable
from tuneflow.commands.outcome import FAILED
from tuneflow.commands.parser import add_folder, add_json, added
from tuneflow.commands.replay_option import add_replay, run_replay
from tuneflow.store.fault_check import FaultResult, check_faults, verdict
from tuneflow.study.folder_check import check_folder
from tuneflow.study.free_owners import free_owners


def add(verbs: Any) -> None:
    """Add the verb."""
    text = "read everything in a study's folder and say what is damaged, missing or sound; nothing is changed"
    verb = added(verbs, "check", text, run, "check runs/digits")
    add_folder(verb)
    verb.add_argument(
        "--faults",
        action="store_true",
        help="check the folder's file system instead: locks, renames, syncs, kill -9; what it writes is removed again",
    )
    add_json(verb)
    add_replay(verb)
    text = "only free the trials of a host that is dead, or of one of its processes by its whole name"
    verb.add_argument("--free", metavar="NAME", help=text)


def run(options: argparse.Namespace) -> int:
    """Print what is wrong; return 1 where something is."""
    if options.replay is not None:
        return run_replay(options)
    if options.free is not None:
        return _free(options)
    return _faults(options) if options.faults else _folder(options)


def _free(options: argparse.Namespace) -> int:
    print(*map(printable, free_owners(options.folder, options.free)), sep="\n")
    return 0


def _folder(options: argparse.Namespace) -> int:
    checked = check_folder(options.folder)
    if options.json:
        facts = {"folder": str(checked.folder), "trials": checked.trials, "states": checked.states}
        print(json_text({**facts, "problems": list(checked.problems)}))
    else:
        print(*map(printable, checked.lines()), sep="\n")
    return FAILED if checked.problems else 0


def _faults(options: argparse.Namespace) -> int:
    results = []
    for result in check_faults(options.folder):
        results.append(result)
        if not options.json:
            print(printable(_row(result)), flush=True)
    sound = all(result.sound for result in results)
    if options.json:
        print(json_text({"folder": str(options.folder), "safe": sound, "checks": [vars(each) for each in results]}))
    else:
        print(verdict(results))
    return 0 if sound else FAILED


def _row(result: FaultResult) -> str:
    return f"{'ok' if result.sound else 'NO':<4}{result.name:<18}{result.seconds:>6.2f} s  {result.result}"
