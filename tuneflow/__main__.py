"""The command line: python -m tuneflow demo | list | show | best | report | check | export."""

import argparse
import sys
from collections.abc import Sequence

from tuneflow.commands import best_trial, check_study, export_lines, list_studies, report_study, run_demo, show_trials
from tuneflow.commands.outcome import outcome_of
from tuneflow.commands.parser import new_parser

VERBS = (run_demo, list_studies, show_trials, best_trial, report_study, check_study, export_lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: those after `python -m tuneflow`; None for the process's own.
    """

    def command() -> int | None:
        options = parser().parse_args(arguments)
        status: int | None = options.run(options)
        return status

    return outcome_of(command)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; each verb sets `run`, a function of the parsed options."""
    top = new_parser()
    verbs = top.add_subparsers(title="verbs", metavar="COMMAND", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return top


if __name__ == "__main__":
    sys.exit(main())
