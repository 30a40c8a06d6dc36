"""The facts of a study: Trial, Report and Slice, frozen and JSON-able."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tuneflow.history.cells import reason_cell, score_cell, settings_rows
from tuneflow.history.objective import Objective
from tuneflow.markup.fragment import fragment, pairs
from tuneflow.space.search_space import Config

Status = Literal["CLAIMED", "RUNNING", "PAUSED", "DONE", "STOPPED", "DIVERGED", "SCREENED", "FAILED"]
WORTHLESS = ("DIVERGED", "SCREENED", "FAILED")
ENDED = ("DONE", "STOPPED", *WORTHLESS)
CUT = "by the scheduler"  # the detail of a trial that a scheduler stopped


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of a trial after one epoch.

    Attributes:
        epoch: counted from 1.
        metrics: name to value; `loss` is the validation loss, `train_loss` the mean over the epoch.
        errors: name to standard error over the validation examples, or over the folds or replicas, whose mean
            the metrics are; where it is known.
        seconds: wall-clock time of the epoch, evaluation included.
        at: when it came in, as Unix time; 0 where that is not known.
        worker: number of the worker process or Ray actor that trained the epoch; 0 for the study's own process.

    When and where it was trained have no part in its equality.
    """

    epoch: int
    metrics: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    at: float = field(default=0.0, compare=False)
    worker: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and the result of training it.

    Attributes:
        number: counted from 0, in the order of proposal.
        config: what was proposed, by sections, with labels for objects.
        status: CLAIMED (its number is taken, its configuration not known yet), RUNNING, PAUSED, or how it ended:
            DONE, STOPPED, DIVERGED, SCREENED (a probe found that it cannot be trained), FAILED.
        reason: why it ended, for all but DONE.
        detail: a failure's traceback; "by the scheduler" for a trial that a scheduler stopped.
        metrics: name to value, of the epoch that counts (the best, or the last).
        errors: name to standard error, of the same epoch.
        epochs: number of epochs trained.
        seconds: wall-clock time, summed over its epochs.
        reports: one for each epoch.
        parent: (trial, epoch) of the state that it went on from, for a fork.
        repeats: number of the trial whose configuration it trains again on purpose, under a seed of its own.
        until: the epoch to train it to, for a trial that `study.ask` returned under a scheduler.
        extends: True for a trial of `study.extend`, which trains its parent on beyond the full length that this had,
            with the same configuration and seed. Its reports are those of the further epochs.
    """

    number: int
    config: Config
    status: Status = "RUNNING"
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reports: Sequence[Report] = ()
    detail: str = ""
    parent: tuple[int, int] | None = None
    repeats: int | None = None
    until: int | None = None
    extends: bool = False

    @property
    def ended(self) -> bool:
        """True for a trial that will not be trained on."""
        return self.status in ENDED

    @property
    def unfinished(self) -> bool:
        """True unless the trial ran to its own end; also for one that a scheduler stopped."""
        return not self.ended or (self.status == "STOPPED" and self.detail == CUT)

    def _repr_html_(self) -> str:
        scores = [(name, score_cell(name, self.metrics, self.errors)) for name in self.metrics]
        spent = [("epochs", self.epochs), ("seconds", f"{self.seconds:.1f}")]
        rows = [*scores, *settings_rows(self.config), *spent, ("reason", reason_cell(self.reason))]
        return fragment(f"trial {self.number}: {self.status}", pairs([row for row in rows if row[1] != ""]))

    if not TYPE_CHECKING:  # so that mypy still knows what a trial has

        def __getattr__(self, name: str) -> Any:
            if name in ("model", "test", "save"):
                raise AttributeError(
                    f"a Trial has no {name}(), as it holds facts only; study.best and study.result({self.number}) of a"
                    " tn.Study have one. Of a folder, tn.open(folder).best.model(builder) makes the trained module;"
                    " for all else make the Study again with folder=, or tn.load the file that result.save wrote."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class Slice:
    """The unit of work: train `trial` from its state at epoch `start` to epoch `until` at most."""

    trial: int
    start: int
    until: int


def with_reports(trial: Trial, reports: Iterable[Report], objective: Objective) -> Trial:
    """Return `trial` with these reports, and with the metrics, epochs and seconds that follow from them."""
    reports = tuple(reports)
    selected = objective.pick(reports)
    scores = (selected.metrics, selected.errors) if selected else ({}, {})
    epochs = reports[-1].epoch if reports else trial.parent[1] if trial.parent else 0
    seconds = sum(report.seconds for report in reports)
    return replace(trial, metrics=scores[0], errors=scores[1], epochs=epochs, seconds=seconds, reports=reports)


def with_status(trial: Trial, status: Status, reason: str = "", detail: str = "", seconds: float = 0.0) -> Trial:
    """Return `trial` with another status, `seconds` longer than the sum over its reports."""
    return replace(trial, status=status, reason=reason, detail=detail, seconds=trial.seconds + seconds)


def stamped(report: Report) -> Report:
    """Return `report` with the time of now as the time when it came in, unless it has one."""
    if report.at:
        return report
    return Report(report.epoch, report.metrics, report.errors, report.seconds, round(time.time(), 4), report.worker)


def has_score(trial: Trial) -> bool:
    """True for a trial with metrics to be ranked by; False where it diverged, failed or reported none."""
    return trial.status not in WORTHLESS and bool(trial.metrics)
