"""The study of a script: the script is run up to where it makes the study on a folder."""

import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tuneflow.errors import StudyError, TuneflowError, in_one_line
from tuneflow.study.replay.script_hook import Awaited, awaiting


def use_study_of(script: str, folder: Path, use: Callable[[Any], object]) -> None:
    """Run a script until it makes the study in `folder`, call `use` with that study, and leave the script.

    It is run as `python SCRIPT`, or `python -m SCRIPT` for the name of a module, in this process. Studies are made on
    copies of their folders meanwhile, and what the script prints goes to stderr. So nothing of the study is trained or
    written; whatever else the script does before it makes the study, it does.

    Args:
        script: a file, or the name of a module.
        folder: the study's.
        use: called with the study where it is made, with all that the script has open.

    Raises:
        StudyError: the script raises an error, or ends, before it makes the study.
        FingerprintError: it makes the study with other settings.
    """
    with TemporaryDirectory(prefix="tuneflow-") as copies:
        awaited = Awaited(folder.resolve(), use, Path(copies))
        with awaiting(awaited), _arguments(script), redirect_stdout(sys.stderr):
            _run(script, awaited)
    if awaited.error is not None:
        raise awaited.error
    if not awaited.made:
        raise StudyError(
            f"{script}: makes no study in {folder}; name the script that does, and run this where that is run, as its"
            " paths are the same then."
        )


def _run(script: str, awaited: Awaited) -> None:
    try:
        if Path(script).is_file():
            runpy.run_path(script, run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    except (KeyboardInterrupt, TuneflowError):
        raise
    except BaseException as error:
        if not awaited.made:
            raise StudyError(f"{script}: ended before it made the study: {in_one_line(error)}") from error


@contextmanager
def _arguments(script: str) -> Iterator[None]:
    """A block in which the interpreter's arguments and path are those of the script."""
    before, path = sys.argv, list(sys.path)
    sys.argv = [script]
    sys.path.insert(0, str(Path(script).absolute().parent) if Path(script).is_file() else "")
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before, path
