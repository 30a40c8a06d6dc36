"""StudyRecord: the facts of a study, live or from its folder, for tables, plots, pages and advice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.front_remarks import unbeaten
from tuneflow.analysis.speed_gain import SpeedGain
from tuneflow.analysis.tested import Tested
from tuneflow.history.history import History, Trials
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Trial
from tuneflow.probing.probe import Probe
from tuneflow.space.search_space import SearchSpace

IN_MEMORY = "in memory"  # the name of a study without a folder


@dataclass(frozen=True)
class StudyRecord:
    """The settings and trials of a study, live or from its folder; `study.record()` gives it.

    Attributes:
        name: the study's folder, or "in memory".
        facts: the settings that it was made with, as JSON.
        space: its search space; from a folder, with names for objects.
        history: its trials.
        confirmed: the trial that `study.confirm` chose last, or the members of a front that it trained anew; empty
            without, or where trials have ended since.
        tested: the last test of each trial that was tested on other data, by number.
        probes: what was measured before any training, by the branch of the space that it is of.
        grown: the changes of its space since it was made, in words.
        gains: how much faster other settings of its runtime would train, as it has measured.
    """

    name: str
    facts: Mapping[str, Any]
    space: SearchSpace
    history: History
    confirmed: Sequence[Confirmed] = ()
    tested: Sequence[Tested] = ()
    probes: Mapping[str, Probe] = field(default_factory=dict)
    grown: Sequence[str] = ()
    gains: Sequence[SpeedGain] = ()

    @property
    def folder(self) -> str | None:
        """The study's folder; None in memory."""
        return None if self.name == IN_MEMORY else self.name

    @property
    def objective(self) -> Objective:
        """The metrics to tune for, their directions and limits."""
        return self.history.objective

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that count, then of the others that the trainer was given."""
        others = (self.facts["trainer"] or {}).get("metrics", {})
        return list(dict.fromkeys([*self.objective.metrics, *(others if isinstance(others, dict) else ())]))

    @property
    def exposures(self) -> list[str]:
        """Sentences on how easily the structures that were probed are attacked."""
        return [f"{branch}: {one.exposure}" for branch, one in self.probes.items() if one.exposure is not None]

    @property
    def best(self) -> Trial | None:
        """The trial that was confirmed, else the one with the best score; None without one, or with several objectives.

        A configuration that was trained several times has their mean as its score.
        """
        if self.objective.several:
            return None
        return self.trials[self.confirmed[0].number] if self.confirmed else self.history.leader

    @property
    def front(self) -> list[Trial]:
        """The finished trials that no other one beats in every objective, or those `study.confirm` left of them."""
        if not self.confirmed or not self.objective.several:
            return self.history.front
        return [self.trials[one.number] for one in unbeaten(self.objective, self.confirmed)]


class Recorded(Protocol):
    """A study, or a folder that was opened."""

    def record(self) -> StudyRecord: ...


def record_of(study: StudyRecord | Recorded) -> StudyRecord:
    """Return the record of a study, of a folder that `tn.open` reads, or of a record itself."""
    return study if isinstance(study, StudyRecord) else study.record()
