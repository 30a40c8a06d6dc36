"""The check of a study's folder: whether everything that is kept in it can be read, and is as it was written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneflow.analysis.json_text import json_text
from tuneflow.errors import StoreError
from tuneflow.history.trial import Trial
from tuneflow.store.integrity import database_damages, state_damages
from tuneflow.study.archive import Archive
from tuneflow.study.folder_result import states_in
from tuneflow.study.retention import selected_epochs


@dataclass(frozen=True)
class FolderCheck:
    """The outcome of a check.

    Attributes:
        folder: the study's.
        trials: number of trials that could be read.
        states: number of files of states.
        problems: what is wrong, a sentence each; empty where nothing is.
    """

    folder: Path
    trials: int
    states: int
    problems: tuple[str, ...]


def check_folder(folder: Path) -> FolderCheck:
    """Read everything in a study's folder and return what is wrong with it; nothing is changed.

    SQLite checks its file, every trial is read with its reports, its configuration has to be in the space and its
    metrics those of the epoch that counts, the state of the best trial has to be there, and the digest of each state is
    compared. A study that runs meanwhile is left alone.

    Args:
        folder: the study's.

    Raises:
        StoreError: there is no study in it.
    """
    path = folder / "study.sqlite"
    files = [file for name in ("states", "final") for file in sorted((folder / name).glob("*.state"))]
    problems = list(database_damages(path)) if path.is_file() else []
    trials = 0
    try:
        archive = Archive(folder)
        trials = len(archive.trials)
        problems += [*_trial_problems(archive), *_missing_states(archive)]
    except StoreError as error:
        if not path.is_file():
            raise
        problems.append(str(error))
    problems += state_damages(files)
    return FolderCheck(folder, trials, len(files), tuple(problems))


def _trial_problems(archive: Archive) -> Iterator[str]:
    for trial in archive.trials:
        if trial.status != "CLAIMED":
            yield from _problems_of(archive, trial)


def _problems_of(archive: Archive, trial: Trial) -> Iterator[str]:
    where = f"{archive.folder}: trial {trial.number}"
    try:
        archive.space.cast(trial.config, where=False)
    except ValueError as error:
        yield f"{where}: its configuration is not in the space: {error}"
    try:
        selected = archive.history.objective.pick(list(trial.reports))
    except StoreError as error:
        yield f"{where}: {error}"
        return
    if trial.ended and json_text(dict(trial.metrics)) != json_text(dict(selected.metrics) if selected else {}):
        yield f"{where}: its metrics are not those that it reported for the epoch that counts."


def _missing_states(archive: Archive) -> Iterator[str]:
    """Yield a sentence if no state of the best trial is kept, in a study of a tn.Trainer that does not run."""
    best, trainer = archive.record().best, archive.facts["trainer"] or {}
    if best is None or "data" not in trainer or archive.history.running:
        return
    kept = states_in(archive.folder / "states")
    trainings = [archive.trials[number] for number in archive.history.trainings.numbers(best)]
    if not any(selected_epochs(trial, archive.history.objective) & kept.epochs(trial.number) for trial in trainings):
        yield f"{archive.folder}: the state of trial {best.number}, the best, is not there; it has no model any more."
