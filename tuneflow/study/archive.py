"""Archive: a study's folder, read without the code that made it."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.finding import Advice
from tuneflow.analysis.importance import Importance, importance_of
from tuneflow.analysis.json_text import json_text, trial_facts
from tuneflow.analysis.listing import listing
from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.speed_gain import gains_of
from tuneflow.analysis.study_fragment import study_fragment
from tuneflow.analysis.table import Table
from tuneflow.analysis.trial_table import curve_table, trial_table
from tuneflow.errors import StoreError, StudyError, in_one_line, printable
from tuneflow.history.history import History, Trials
from tuneflow.history.objective import Limit, Objective
from tuneflow.history.trial import Trial, with_reports
from tuneflow.pages.write_report import write_report
from tuneflow.probing.cache import probes_of
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.links import refuse_links
from tuneflow.store.open_file import refuse_lost
from tuneflow.store.sqlite import SqliteStore
from tuneflow.store.sqlite_errors import damaged
from tuneflow.study.confirm import last_choice
from tuneflow.study.confirmed_front import last_front
from tuneflow.study.extension import lengths_of
from tuneflow.study.folder_result import FolderResult, KeptState, folder_result, states_in
from tuneflow.study.growth import FACTS, Growth
from tuneflow.study.kept_tests import kept_tests
from tuneflow.study.retention import selected_epochs, with_kept_model
from tuneflow.validate import path_of

NEED_A_STUDY = ("run", "test", "confirm", "enqueue", "ask", "tell", "model", "searcher", "scheduler", "adjusted")
NEW = 0.25  # seconds: a file that was made less than this ago may lack what its process is about to write


class Archive:
    """A study's folder, read only: its trials, history and settings. `tn.open(folder)` makes it.

    Objects behind labels are known by their names only. `best.model(builder)` makes the trained module from the state
    in the folder; to train, test or confirm, make the Study again.

    Args:
        folder: the study's folder.

    Attributes:
        facts: the settings that the study was made with, as JSON.
        space: its search space, with names for objects.
        history: its trials.
        growth: how its space grew since it was made.
        confirmed: the trial that `study.confirm` chose last; None without, or where trials have ended since.
        probes: what was measured before any training, by the branch of the space that it is of.
        gains: how much faster other settings of its runtime would train, as it has measured.
        tested: the last test of each trial that was tested on other data, by number.
        confirmed_front: the members of a front that it trained anew; empty without, or where trials have ended since.
        busy: True where a process had trials under way when the folder was read.

    Raises:
        StoreError: the folder holds no study, or one of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = path_of("tn.open: folder", folder)
        path = self.folder / "study.sqlite"
        refuse_lost(path)
        if not os.path.isfile(path):
            raise StoreError(_no_study(self.folder))
        refuse_links(self.folder)
        self._in_use = path.with_name(f"{path.name}-wal").exists()  # before it is opened here
        with closing(self._store(path)) as store:
            try:
                self._read(store)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                StudyError,
                TypeError,
                ValueError,
            ) as error:  # of a changed byte
                raise damaged(path, f"what it holds cannot be read ({in_one_line(error)})") from error

    def _store(self, path: Path) -> SqliteStore:
        return SqliteStore(path, reads=True)

    def _read(self, store: SqliteStore) -> None:
        self.facts: dict[str, Any] = _settings(store, self.folder / "study.sqlite", self._in_use)
        facts = self.facts
        self.space = SearchSpace.from_json(facts["space"])
        goals = tuple((metric, way == "maximize") for metric, way in facts["objective"]["goals"].items())
        limits = tuple(Limit(metric, *ends) for metric, ends in facts["objective"].get("limits", {}).items())
        objective = Objective(goals, facts["objective"]["at"], limits)
        self.history = History(self.space, objective, facts["seed"], facts["epochs"])
        self.growth = Growth.of(facts)
        self.probes = probes_of(store)
        self.gains = gains_of(store)
        self.tested = kept_tests(store)
        self.history.grown = self.growth.trials
        self.history.lengths = lengths = lengths_of(store)
        self.history.epochs = lengths[-1] if lengths else self.history.epochs
        for trial in store.changes():
            trial = replace(trial, config=self.growth.completed(self.space, trial.config))
            self.history.record(trial if trial.ended else with_reports(trial, trial.reports, objective))
        self.confirmed = last_choice(store, self.history)
        self.confirmed_front = last_front(store, self.history)
        self.busy = store.busy

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def best(self) -> FolderResult:
        """The finished trial with the best score, or the one that `study.confirm` chose; it gives its trained module.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there are several objectives; `front` is what they have.
        """
        if self.confirmed is not None:
            return self.result(self.confirmed.number)
        return self._result(with_kept_model(self.history.best, self.history, states_in(self.folder / "states")))

    @property
    def front(self) -> list[FolderResult]:
        """The finished trials that no other one beats in every objective, or those `study.confirm` left of them."""
        return [self._result(trial) for trial in self.record().front]

    def result(self, number: int) -> FolderResult:
        """Return trial `number`, whose trained module can be made if its state is kept.

        Raises:
            StudyError: there is no such trial.
        """
        if not isinstance(number, int) or not 0 <= number < len(self.history):
            raise StudyError(f"there is no trial {number}; this study has {len(self.history)}.")
        return self._result(self.history.trials[number])

    def _result(self, trial: Trial) -> FolderResult:
        epoch = max(selected_epochs(trial, self.history.objective), default=0)
        trainer = self.facts["trainer"] or {"function": "of ask and tell"}
        data = trainer.get("data", {})
        rows, metrics = data if isinstance(data, dict) else {}, tuple(self.history.objective.metrics)
        return folder_result(trial, KeptState(self.folder, epoch, self.space, rows, metrics, "function" in trainer))

    def record(self) -> StudyRecord:
        """Return all that is known of the study, as `Study.record` does."""
        chosen = self.confirmed_front if self.confirmed is None else [self.confirmed]
        settings = (str(self.folder), self.facts, self.space, self.history)
        return StudyRecord(*settings, chosen, self.tested, self.probes, self.growth.changes, self.gains)

    def importance(self, metric: str | None = None) -> Importance:
        """Return how much of the differences in score each parameter is responsible for; see `Study.importance`.

        Args:
            metric: the objective that it is of; None for the only one.
        """
        return importance_of(self.record(), metric)

    def report(self, path: str | Path = "report.html", beside: Sequence[StudyRecord | Recorded] = ()) -> Path:
        """Write what is known of the study as a page to look at, and return where it is; see `Study.report`.

        Args:
            path: the file; one that is there is replaced.
            beside: other studies, or opened folders, with the same objective: the page then compares their best scores
                so far against trials, epochs and seconds. Those that differ only in their seed are one method.

        Raises:
            StoreError: the file cannot be written.
            ValueError: the studies do not have the same objective.
        """
        return write_report(self.record(), path, beside=beside)

    def advice(self) -> Advice:
        """Return what the trials say about the study's settings; see Study.advice."""
        return advice_of(self.record())

    def __repr__(self) -> str:
        return (
            f"Archive({printable(str(self.folder))}: {len(self.history.finished)} of {len(self.trials)} trials ended)"
        )

    def _repr_html_(self) -> str:
        return study_fragment(self.record(), "Archive")

    if not TYPE_CHECKING:  # so that mypy still knows what an archive has

        def __getattr__(self, name: str) -> Any:
            if name in NEED_A_STUDY:
                raise AttributeError(
                    f"tn.open reads a study's folder without its code, and has no {name}; make the tn.Study again, with"
                    f' folder="{self.folder}", which goes on where it was.'
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def lines(self) -> Iterator[str]:
        """Yield the study as JSON lines: its facts first, then a line for each trial with all its reports."""
        yield json_text({"study": self.facts})
        for trial in self.trials:
            reports = [
                {"epoch": r.epoch, "metrics": r.metrics, "seconds": r.seconds, "at": r.at, "worker": r.worker}
                for r in trial.reports
            ]
            yield json_text({**trial_facts(trial), "reports": reports})

    def table(self) -> Table:
        """Return a row for each trial, as `Study.table` does."""
        return trial_table(self.record())

    def curves(self) -> Table:
        """Return a row for each epoch of each trial, as `Study.curves` does."""
        return curve_table(self.record())

    def listing(self, most: int = 20) -> str:
        """Return the best trials with their configurations as text, the best first.

        Args:
            most: number of trials to show.
        """
        return listing(self.record(), most)


def _settings(store: SqliteStore, path: Path, in_use: bool) -> dict[str, Any]:
    """Return the settings of a study; those of a new one are waited for where another process has its file open."""
    while (facts := store.recall(FACTS)) is None:
        if not in_use or not 0 <= time.time() - path.stat().st_mtime < NEW:
            raise StoreError(
                f"{path}: its study has no settings yet: it is being made just now, or its process died before. Run"
                " its script again to go on."
            )
        time.sleep(0.02)
    return facts


def _no_study(folder: Path) -> str:
    """Return the reason why a folder holds no study, with the way out where there is one."""
    if not folder.exists():
        return f"{folder}: holds no study, as there is no such folder."
    if not folder.is_dir():
        way = f"; give its folder, {folder.parent}" if folder.name == "study.sqlite" else ""
        return f"{folder}: holds no study, as it is a file{way}."
    below = next(folder.glob("*/study.sqlite"), None)
    way = "" if below is None else f"; there is one in {below.parent}, and `python -m tuneflow list {folder}` lists all"
    return f"{folder}: holds no study (there is no study.sqlite in it{way})."
