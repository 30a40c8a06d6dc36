"""The command line: python -m tuneflow demo | show | export."""

import argparse
import os
import sys
from collections.abc import Sequence

from tuneflow.errors import TuneflowError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

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
    """The command line's parser: one subcommand each, whose `run` takes the parsed options."""
    top = argparse.ArgumentParser(prog="python -m tuneflow", description="Tuning for deep learning on PyTorch.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_demo(commands)
    add_show(commands)
    add_export(commands)
    return top


def add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "compare fixed settings with grid, random, Sobol and LeCun search on the bundled digits (under a minute)"
    command = commands.add_parser("demo", help=text, description=text)
    command.add_argument("--folder", default="runs/demo", help="everything is written inside; default %(default)s")
    command.add_argument("--trials", type=multiple_of_four, default=12, help=argparse.SUPPRESS)
    command.add_argument("--epochs", type=positive, default=10, help=argparse.SUPPRESS)
    command.add_argument("--seed", type=int, default=0, help="of all searches; needs a folder of its own")
    command.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> None:
    from tuneflow.demo import demo  # only now, so that other commands do not pay for it

    demo(options.folder, options.trials, options.epochs, options.seed)


def add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "print the best trials of a study's folder"
    command = commands.add_parser("show", help=text, description=text)
    command.add_argument("folder", help="where the study is kept")
    command.add_argument("--trials", type=positive, default=20, help="how many; default %(default)s")
    command.set_defaults(run=run_show)


def run_show(options: argparse.Namespace) -> None:
    from tuneflow.study.archive import Archive

    print(Archive(options.folder).table(options.trials))


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "print a study's folder as JSON lines: what it was made with, then every trial with its reports"
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("folder", help="where the study is kept")
    command.add_argument("--jsonl", action="store_true", help="the format; the only one so far, and the default")
    command.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> None:
    from tuneflow.study.archive import Archive

    try:
        for line in Archive(options.folder).lines():
            print(line)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"needs to be at least 1, got {text}")
    return number


def multiple_of_four(text: str) -> int:
    number = positive(text)
    if number % 4:
        raise argparse.ArgumentTypeError(f"needs to be a multiple of 4, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
