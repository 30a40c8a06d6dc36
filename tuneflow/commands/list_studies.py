"""The verb list: the studies below a folder."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneflow.analysis.json_text import best_or_front, json_text, marked_facts, study_facts
from tuneflow.analysis.listing import counted
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import printable, score_of, table_lines
from tuneflow.commands.parser import add_json, added, as_path
from tuneflow.errors import StoreError, plural
from tuneflow.study.archive import Archive


def add(verbs: Any) -> None:
    """Add the verb."""
    verb = added(verbs, "list", "list the studies in a folder and below it, a line each", run, "list runs")
    verb.add_argument("root", type=as_path, nargs="?", default=Path("."), help="where to look; default %(default)s")
    add_json(verb)


def run(options: argparse.Namespace) -> None:
    """List them; one that cannot be read is listed with the reason.

    Raises:
        StoreError: there is no such folder.
    """
    if not options.root.is_dir():
        raise StoreError(f"{options.root}: there is no such folder.")
    studies = [_read(path) for path in folders_of_studies(options.root)]
    if options.json:
        print(json_text({"studies": [_facts(*study) for study in studies]}))
    elif not studies:
        print(printable(f"{options.root}: no study in it."))
    else:
        print("\n".join(table_lines([["study", "trials", "best"], *(_cells(*study) for study in studies)])))


def folders_of_studies(root: Path) -> Iterator[Path]:
    """Yield the folders of studies in `root` and below it, by name; links are not followed, nor hidden folders."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "study.sqlite" in files:
            folders[:] = [name for name in folders if name not in ("states", "final")]  # its own
            yield Path(place)


def _read(path: Path) -> tuple[Path, StudyRecord | None, str]:
    """Return the record of a study, or the reason why it cannot be read."""
    try:
        return path, Archive(path).record(), ""
    except StoreError as error:
        return path, None, str(error).removeprefix(f"{path / 'study.sqlite'}: ").removeprefix(f"{path}: ")


def _cells(path: Path, record: StudyRecord | None, reason: str) -> list[str]:
    if record is None:
        return [str(path), "-", reason]
    return [str(path), counted(record), _best_words(record)]


def _best_words(record: StudyRecord) -> str:
    chosen = best_or_front(record)
    if not chosen:
        return "-"
    if record.objective.several:
        return f"front of {plural(len(chosen), 'trial')}"
    (best,) = chosen
    return f"{score_of(record.objective.metric, best.metrics, best.errors)} (trial {best.number})"


def _facts(path: Path, record: StudyRecord | None, reason: str) -> dict[str, Any]:
    if record is None:
        return {"folder": str(path), "problem": reason}
    return {**study_facts(record), "best": marked_facts(record, best_or_front(record)), "problem": None}
