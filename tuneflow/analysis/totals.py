"""Totals of a study: its trials by status, epochs, seconds, and where they were trained."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneflow.analysis.best_so_far import own_epochs
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.timeline import timeline_of
from tuneflow.errors import plural
from tuneflow.history.trial import Trial

STATUSES = ("DONE", "STOPPED", "DIVERGED", "SCREENED", "FAILED", "RUNNING", "PAUSED", "CLAIMED")


@dataclass(frozen=True)
class Totals:
    """The sums over a study's trials.

    Attributes:
        statuses: number of trials by status, those without one left out.
        epochs: number of epochs trained; a fork's are those after its parent's.
        full: number of epochs that stopped and paused trials would take in full, and the others took; where forks take
            the place of stopped trials, those that were trained.
        seconds: seconds of training, summed over the trials.
        wall: seconds of the clock in which something was trained; see `Timeline`.
        workers: number of workers that trained.
        place: device, precision, engine and workers in words; empty where trials are trained elsewhere.
    """

    statuses: Mapping[str, int]
    epochs: int
    full: int
    seconds: float
    wall: float
    workers: int
    place: tuple[str, ...]

    @property
    def saved(self) -> int:
        """Number of epochs that stopping and pausing trials has saved."""
        return self.full - self.epochs


def totals_of(record: StudyRecord) -> Totals:
    """Return the totals of a study."""
    trials = [trial for trial in record.trials if trial.status != "CLAIMED"]
    counts = Counter[str](trial.status for trial in record.trials)
    timeline = timeline_of(record)
    epochs, workers = sum(map(own_epochs, trials)), len(timeline.idle)
    forked = any(trial.parent and not trial.extends for trial in trials)
    return Totals(
        statuses={status: counts[status] for status in STATUSES if counts[status]},
        epochs=epochs,
        full=epochs + (0 if forked else sum(_left(record, trial) for trial in trials)),
        seconds=sum(trial.seconds for trial in trials),
        wall=timeline.seconds,
        workers=workers,
        place=tuple(_place(record.facts, workers)),
    )


def _left(record: StudyRecord, trial: Trial) -> int:
    """Return the number of epochs that a stopped or paused trial lacks to its full length."""
    history = record.history
    if trial.status not in ("STOPPED", "PAUSED") or history.open_end:
        return 0
    length = history.epochs if trial.extends or not history.lengths else history.lengths[0]
    return max(0, length - trial.epochs)


def _place(facts: Mapping[str, Any], workers: int) -> list[str]:
    runtime = facts.get("runtime") or {}
    if not runtime or facts.get("trainer") is None:
        return []
    words = [runtime["device"], runtime.get("precision", "")]
    words += ["channels last"] if runtime.get("channels_last") else []
    words += ["in lanes"] if runtime.get("executor") == "fused" else []
    return [*filter(None, words), *([plural(workers, "worker")] if workers > 1 else [])]
