"""Archive: a study's folder, read without the code that made it."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import table_lines, value_text
from tuneflow.errors import StoreError
from tuneflow.history.history import History, Trials
from tuneflow.history.objective import Limit, Objective
from tuneflow.history.pareto import ranking
from tuneflow.history.trial import WORTHLESS, Trial, with_reports
from tuneflow.pages.write_report import write_report
from tuneflow.probing.cache import probes_of
from tuneflow.runtime.precision import label
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.folder import path_of
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study.confirm import last_choice
from tuneflow.study.confirmed_front import last_front
from tuneflow.study.extension import lengths_of
from tuneflow.study.front import unbeaten
from tuneflow.study.growth import Growth
from tuneflow.study.kept_tests import kept_tests

NEED_A_STUDY = ("run", "result", "test", "confirm", "enqueue", "ask", "tell", "model", "searcher", "scheduler")
# The facts of a trial that a line of JSON holds, beside its reports.
EXPORTED = ("number", "status", "reason", "config", "metrics", "errors", "epochs", "seconds", "parent", "repeats",
            "extends")  # fmt: skip


class Archive:
    """A study's folder, read only: its trials, history and settings. `tn.open(folder)` makes it.

    Objects behind labels are known by their names only, so it gives no models; for that make the Study again.

    Args:
        folder: the study's folder.

    Attributes:
        facts: the settings that the study was made with, as JSON.
        space: its search space, with names for objects.
        history: its trials.
        growth: how its space grew since it was made.
        confirmed: the trial that `study.confirm` chose last; None without, or where trials have ended since.
        probes: what was measured before any training, by the branch of the space that it is of.
        tested: the last test of each trial that was tested on other data, by number.
        confirmed_front: the members of a front that it trained anew; empty without, or where trials have ended since.

    Raises:
        StoreError: the folder holds no study, or one of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = path_of("tn.open: folder", folder).expanduser()
        path = self.folder / "study.sqlite"
        if not os.path.isfile(path):
            raise StoreError(f"{folder}: holds no study (there is no {path.name} in it).")
        with closing(SqliteStore(path, reads=True)) as store:
            facts = store.recall("facts")
            if facts is None:
                raise StoreError(f"{folder}: the study in it was never completed; remove the folder.")
            self.facts: dict[str, Any] = facts
            self.space = SearchSpace.from_json(facts["space"])
            goals = tuple((metric, way == "maximize") for metric, way in facts["objective"]["goals"].items())
            limits = tuple(Limit(metric, *ends) for metric, ends in facts["objective"].get("limits", {}).items())
            objective = Objective(goals, facts["objective"]["at"], limits)
            self.history = History(self.space, objective, facts["seed"], facts["epochs"])
            self.growth = Growth.of(facts)
            self.probes = probes_of(store)
            self.tested = kept_tests(store)
            self.history.grown = self.growth.trials
            self.history.lengths = lengths = lengths_of(store)
            self.history.epochs = lengths[-1] if lengths else self.history.epochs
            for trial in store.changes():
                trial = replace(trial, config=self.growth.completed(self.space, trial.config))
                self.history.record(trial if trial.ended else with_reports(trial, trial.reports, objective))
            self.confirmed = last_choice(store, self.history)
            self.confirmed_front = last_front(store, self.history)

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def best(self) -> Trial:
        """The finished trial with the best score, or the one that `study.confirm` chose."""
        return self.history.best if self.confirmed is None else self.trials[self.confirmed.number]

    @property
    def front(self) -> list[Trial]:
        """The finished trials that no other one beats in every objective, or those `study.confirm` left of them."""
        members = unbeaten(self.history.objective, self.confirmed_front)
        return [self.trials[one.number] for one in members] if self.confirmed_front else self.history.front

    def record(self) -> StudyRecord:
        """Return all that is known of the study, as `Study.record` does."""
        chosen = self.confirmed_front if self.confirmed is None else [self.confirmed]
        settings = (str(self.folder), self.facts, self.space, self.history)
        return StudyRecord(*settings, chosen, self.tested, self.probes, self.growth.changes)

    def report(self, path: str | Path = "report.html") -> Path:
        """Write what is known of the study as a page to look at, and return where it is; see `Study.report`.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            StoreError: the file cannot be written.
        """
        return write_report(self.record(), path)

    def __repr__(self) -> str:
        return f"Archive({self.folder}: {len(self.history.finished)} of {len(self.trials)} trials ended)"

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
        yield json.dumps({"study": self.facts})
        for trial in self.trials:
            reports = [
                {"epoch": r.epoch, **dict(r.metrics), "seconds": r.seconds, "at": r.at, "worker": r.worker}
                for r in trial.reports
            ]
            yield json.dumps({**{name: getattr(trial, name) for name in EXPORTED}, "reports": reports})

    def table(self, most: int = 20) -> str:
        """Return the best trials with their configurations as text, the best first.

        Args:
            most: number of trials to show.
        """
        objective = self.history.objective
        ranked = self._ranked()
        front = ["front"] if objective.several else []
        names = ["trial", "status", *front, *self.record().metrics, "epochs", "seconds", *self.space.parameters]
        text = table_lines([names, *(self._row(trial) for trial in ranked[:most])])
        counts = {s: sum(t.status == s for t in self.trials) for s in dict.fromkeys(t.status for t in self.trials)}
        tally = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials"
        more = f", the best {most} shown" if len(ranked) > most else ""
        runtime = self.facts["runtime"]
        arithmetic = label(runtime.get("precision", "fp32"), runtime.get("channels_last", False))
        chosen = self.confirmed_front if self.confirmed is None else [self.confirmed]
        confirmed = [f"confirmed: {scores.words(objective.metrics)}" for scores in chosen]
        grown = [f"grown: {change}" for change in self.growth.changes]
        head = f"{self.folder}: {tally}{more}{arithmetic and f', {arithmetic}'}"
        return "\n".join([head, *text, *confirmed, *grown, *self.record().exposures])

    def _ranked(self) -> list[Trial]:
        """Return the trials with a score, the best first; of several objectives by fronts."""
        objective = self.history.objective
        scored = [t for t in self.trials if t.ended and t.metrics and t.status not in WORTHLESS]
        if not scored:
            return []
        costs = np.array([objective.costs(t.metrics) for t in scored])
        beyond = np.array([objective.breach(t.metrics) for t in scored])
        return [scored[place] for place in ranking(costs, beyond=beyond)]

    def _row(self, trial: Trial) -> list[str]:
        scores = [value_text(metric, trial.metrics, {}) for metric in self.record().metrics]
        if self.history.objective.several:
            scores.insert(0, "yes" if trial.number in {member.number for member in self.front} else "")
        axes = (self.space.coordinates[place] for place in self.space.parameters.values())
        settings = [_setting(trial.config, axis.path) for axis in axes]
        return [str(trial.number), trial.status, *scores, str(trial.epochs), f"{trial.seconds:.1f}", *settings]


def _setting(config: Any, path: tuple[str, ...]) -> str:
    """Return the configuration's value at a coordinate as text: a number, a label, or "-" where it is not active."""
    for name in path:
        if not isinstance(config, dict) or name not in config:
            return "-"
        config = config[name]
    if isinstance(config, dict) and len(config) == 1:
        config = next(iter(config))
    return f"{config:.4g}" if isinstance(config, float) else str(config)
