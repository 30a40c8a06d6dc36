"""The command line: python -m tuneflow demo | show | report | export."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tuneflow.errors import TuneflowError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: those after `python -m tuneflow`; None for the process's own.
    """
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except TuneflowError as error:
        print(f"tuneflow: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntuneflow: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; each command sets `run`, a function of the parsed options."""
    top = argparse.ArgumentParser(prog="python -m tuneflow", description="Tuning for deep learning on PyTorch.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    text = "compare fixed settings, nearest neighbors and four searches on the bundled digits (about a minute)"
    command = added(commands, "demo", text, run_demo)
    command.add_argument("--folder", default="runs/demo", help="everything is written inside; default %(default)s")
    command.add_argument("--trials", type=even, default=8, help=argparse.SUPPRESS)
    command.add_argument("--epochs", type=positive, default=5, help=argparse.SUPPRESS)
    command.add_argument("--seed", type=int, default=0, help="the first of three; default %(default)s")
    text = "make one trained network smaller and faster, by each technique and by several (about a minute)"
    command.add_argument("--techniques", action="store_true", help=text)
    command = added(commands, "show", "print the best trials of a study's folder", run_show)
    command.add_argument("folder", help="where the study is kept")
    command.add_argument("--trials", type=positive, default=20, help="how many; default %(default)s")
    command = added(commands, "report", "write a study's folder as a page to look at", run_report)
    command.add_argument("folder", help="where the study is kept")
    command.add_argument("--out", default="report.html", help="the file; default %(default)s")
    text = "print a study's folder as JSON lines: what it was made with, then every trial with its reports"
    command = added(commands, "export", text, run_export)
    command.add_argument("folder", help="where the study is kept")
    command.add_argument("--jsonl", action="store_true", help="the format; the only one so far, and the default")
    return top


def added(commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
    """Add a command with its description, and return its parser."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def run_demo(options: argparse.Namespace) -> None:
    """Train and compare; import the demo only now, so that other commands do not pay for it."""
    if options.techniques:
        from tuneflow.demo_techniques import demo_techniques

        demo_techniques(options.folder, seed=options.seed)
        return
    from tuneflow.demo import demo

    demo(options.folder, options.trials, options.epochs, options.seed)


def run_show(options: argparse.Namespace) -> None:
    """Print the best trials."""
    from tuneflow.study.archive import Archive

    print(Archive(options.folder).table(options.trials))


def run_report(options: argparse.Namespace) -> None:
    """Write the page."""
    from tuneflow.study.archive import Archive

    print(Archive(options.folder).report(options.out))


def run_export(options: argparse.Namespace) -> None:
    """Print the folder as JSON lines."""
    from tuneflow.study.archive import Archive

    try:
        for line in Archive(options.folder).lines():
            print(line)
    except BrokenPipeError:  # the reader closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"needs to be at least 1, got {text}")
    return number


def even(text: str) -> int:
    """Parse an even whole number of at least 4."""
    number = positive(text)
    if number < 4 or number % 2:
        raise argparse.ArgumentTypeError(f"needs to be even and at least 4, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
