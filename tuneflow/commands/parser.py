"""The parser of the command line, and the kinds of its arguments."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneflow.validate import path_of

Run = Callable[[argparse.Namespace], int | None]  # carries a verb out, and returns the exit status, None for 0
CODES = (
    "exit status: 0 done; 1 not possible, or something is wrong; 2 wrong arguments; 130 interrupted; 141 pipe closed"
)


def new_parser() -> argparse.ArgumentParser:
    """Return the parser without its verbs."""
    text = "Tuning for deep learning on PyTorch. A verb's own help, as of `show --help`, has an example."
    return argparse.ArgumentParser(prog="python -m tuneflow", description=text, epilog=CODES)


def added(verbs: Any, name: str, text: str, run: Run, example: str) -> argparse.ArgumentParser:
    """Add a verb, and return its parser.

    Args:
        verbs: those of the whole parser.
        name: the verb.
        text: its description.
        run: carries it out; gets the parsed options.
        example: a command line, without its beginning, for the help.
    """
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  python -m tuneflow {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
    return verb


def add_folder(verb: argparse.ArgumentParser) -> None:
    """Give a verb the folder of a study as its argument."""
    verb.add_argument("folder", type=as_path, help="where the study is kept")


def add_json(verb: argparse.ArgumentParser) -> None:
    """Give a verb the option to print for machines."""
    verb.add_argument("--json", action="store_true", help="print one line of JSON, with keys that stay the same")


def as_path(text: str) -> Path:
    """Parse the path of a folder or file."""
    try:
        return path_of("it", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    """Parse a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"needs a whole number, got {text!r}") from None


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"needs to be at least 1, got {text}")
    return number


def even(text: str) -> int:
    """Parse an even whole number of at least 4."""
    number = positive(text)
    if number < 4 or number % 2:
        raise argparse.ArgumentTypeError(f"needs to be even and at least 4, got {text}")
    return number
