"""The check of a study's folder: whether everything that is kept in it can be read, and is as it was written."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from tuneflow.analysis.json_text import json_text
from tuneflow.errors import StoreError, plural
from tuneflow.history.trial import Trial
from tuneflow.store.integrity import SoundRows, database_damages, state_damage
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study.archive import Archive
from tuneflow.study.folder_links import broken_links, missing_states, strange_numbers, strange_state
from tuneflow.study.growth import FACTS


@dataclass(frozen=True)
class FolderCheck:
    """The outcome of a check.

    Attributes:
        folder: the study's.
        trials: number of trials that are sound.
        states: number of files of states that are sound.
        problems: what is wrong, a sentence each; empty where nothing is.
    """

    folder: Path
    trials: int
    states: int
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the outcome as text: a line with what is sound, and one for each problem."""
        sound = f"{plural(self.trials, 'trial')}, {plural(self.states, 'state')}"
        if not self.problems:
            return [f"{self.folder}: {sound}: nothing is wrong"]
        return [f"{self.folder}: {plural(len(self.problems), 'problem')}; sound are {sound}", *self.problems]


class SoundArchive(Archive):
    """A study's folder of which what is sound is read.

    Attributes:
        damages: what is damaged in its rows, a sentence each.
        sound: its trials that were read, by number.
        kept: what is kept beside its trials, by key.
    """

    @override
    def _store(self, path: Path) -> SqliteStore:
        store = SoundRows(path)
        self.damages = store.damages
        return store

    @override
    def _read(self, store: SqliteStore) -> None:
        self.kept: dict[str, dict[str, Any]] = store.recall_all("")
        if FACTS not in self.kept and self.damages:
            raise StoreError(self.damages[0])
        super()._read(store)
        self.sound = {trial.number: trial for trial in self.trials if trial.status != "CLAIMED"}


def check_folder(folder: Path) -> FolderCheck:
    """Read everything in a study's folder and return what is wrong with it, and what is sound; nothing is changed.

    SQLite checks its file. Every row is read and compared with its digest, and what is damaged is named and left out.
    Configurations have to be in the space, metrics those of the epoch that counts, and trials there that others go on
    from, repeat or name. Of each state the digest is compared, and its trial has to be there; the states have to be
    there that the best trial and forks need. A study that runs meanwhile is left alone.

    Args:
        folder: the study's.

    Raises:
        StoreError: there is no study in it.
    """
    path = folder / "study.sqlite"
    files = [file for name in ("states", "final") for file in sorted((folder / name).glob("*.state"))]
    problems = list(database_damages(path)) if path.is_file() else []
    try:
        archive = SoundArchive(folder)
    except StoreError as error:
        if not path.is_file() or not path.stat().st_size:
            raise
        damages, sound = _rows_alone(path)
        wrong = {file: state_damage(file) for file in files}
        problems += damages or [str(error)]
    else:
        unsound, wrong = _trial_problems(archive), {file: _state_problem(file, archive) for file in files}
        sound = len(archive.sound) - len(unsound)
        links = [*strange_numbers(archive.kept, len(archive.trials)), *missing_states(archive)]
        problems += [*archive.damages, *(text for texts in unsound.values() for text in texts)]
        problems += [f"{folder}: {text}." for text in links]
    problems += filter(None, wrong.values())
    return FolderCheck(folder, sound, list(wrong.values()).count(""), tuple(dict.fromkeys(problems)))


def _rows_alone(path: Path) -> tuple[list[str], int]:
    """Return what is damaged in rows, and the number of sound trials, of a study whose settings cannot be read."""
    try:
        with closing(SoundRows(path)) as store:
            trials = store.changes()
            store.recall_all("")
            return store.damages, len(trials)
    except StoreError as error:
        return [str(error)], 0


def _trial_problems(archive: SoundArchive) -> dict[int, list[str]]:
    """Return what is wrong with trials, by number."""
    problems = {}
    for number, trial in archive.sound.items():
        where = f"{archive.folder}: trial {number}: "
        try:
            texts = [f"{where}{text}." for text in _problems_of(archive, trial)]
        except StoreError as error:
            texts = [str(error)]
        if texts:
            problems[number] = texts
    return problems


def _problems_of(archive: SoundArchive, trial: Trial) -> Iterator[str]:
    try:
        archive.space.cast(trial.config, where=False)
    except ValueError as error:
        yield f"its configuration is not in the space: {str(error).removesuffix('.')}"
    yield from broken_links(trial, archive.sound)
    selected = archive.history.objective.pick(list(trial.reports))
    if trial.ended and json_text(dict(trial.metrics)) != json_text(dict(selected.metrics) if selected else {}):
        yield "its metrics are not those that it reported for the epoch that counts"


def _state_problem(file: Path, archive: Archive) -> str:
    if damage := state_damage(file):
        return damage
    named = re.fullmatch(r"(\d{6,})-(\d{6,})", file.stem)
    reason = strange_state(int(named[1]), int(named[2]), archive) if named else ""
    return f"{file}: {reason}." if reason else ""
