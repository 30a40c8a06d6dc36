"""What happened: Report, Trial, Slice and History. Facts, frozen and JSON-able."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from tuneflow.errors import NothingFinished, StudyError
from tuneflow.history.objective import Objective
from tuneflow.space.search_space import Config, SearchSpace

Status = Literal["CLAIMED", "RUNNING", "PAUSED", "DONE", "STOPPED", "DIVERGED", "SCREENED", "FAILED"]
WORTHLESS = ("DIVERGED", "SCREENED", "FAILED")
ENDED = ("DONE", "STOPPED", *WORTHLESS)
CUT = "by the scheduler"  # the detail of a trial that a scheduler stopped


@dataclass(frozen=True, slots=True)
class Report:
    """What one epoch of a trial gave.

    Attributes:
        epoch: counted from 1.
        metrics: name to value; `loss` is the validation loss, `train_loss` the mean over the epoch.
        errors: name to standard error over the validation examples, where it is known.
        seconds: wall-clock time of the epoch, evaluation included.
    """

    epoch: int
    metrics: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and what came of it.

    Attributes:
        number: counted from 0, in the order of proposal.
        status: CLAIMED (its number is taken, its configuration not known yet), RUNNING, PAUSED, or how it ended:
            DONE, STOPPED, DIVERGED, SCREENED (a probe found that it cannot be trained), FAILED.
        reason: why it ended, for all but DONE; a failure's traceback follows in `detail`, and for a trial that did not
            end by itself, that a scheduler stopped it.
        metrics, errors: those of the report that speaks for the trial (best epoch or last).
        epochs: how many epochs were trained.
        seconds: the sum over its epochs.
        reports: one for each epoch.
        parent: (trial, epoch) of the state that it went on from, for a fork.
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

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def unfinished(self) -> bool:
        """Whether it might be trained on, or might have been: it has not ended, or a scheduler stopped it."""
        return not self.ended or (self.status == "STOPPED" and self.detail == CUT)


@dataclass(frozen=True, slots=True)
class Slice:
    """The unit of work: take `trial` from its state at epoch `start` on, to epoch `until` at most."""

    trial: int
    start: int
    until: int


class History:
    """All trials of a study, append-only; searchers and schedulers read it and never change it.

    Attributes:
        space, objective: the study's.
        seed: the study's seed, for sequences that belong to the whole study.
        epochs: the full length of a trial.
        number: the number of the trial that is being proposed.
        remaining: how many more trials the run may start; `inf` without a limit.
        prober: what `probe` asks; None where there is no model to measure.
    """

    def __init__(self, space: SearchSpace, objective: Objective, seed: int = 0, epochs: int = 1) -> None:
        self.space, self.objective, self.seed, self.epochs = space, objective, seed, epochs
        self.number = 0
        self.remaining = math.inf
        self.prober: Callable[[Config], Any] | None = None
        self._trials: list[Trial] = []
        self._view = Trials(self._trials, None)
        self._places: dict[str, dict[int, None]] = {"RUNNING": {}, "PAUSED": {}, "CLAIMED": {}}
        self._finished: list[int] = []
        self._best: Trial | None = None
        self._improved = 0  # how many trials had ended when the best one had
        self._costs = np.empty((0, len(objective.goals)))
        self._errors = np.empty((0, len(objective.goals)))
        self._breaches = np.empty((0, sum(len(limit.bounds) for limit in objective.limits)))
        self._units = np.empty((0, len(space)))
        self._reached = np.empty((0, 1))
        self._at: dict[int, NDArray[np.float64]] = {}  # epoch to breach and costs, for the epochs that were asked for
        self._costed = self._placed = 0  # how far the columns are filled
        self._unplaced: list[int] = []

    def record(self, trial: Trial) -> None:
        """Add a trial, or replace the one of this number. The study's driver calls this.

        A number that was skipped is taken to be claimed by another process until it is recorded itself.
        """
        number = trial.number
        while number > len(self._trials):
            self.record(Trial(len(self._trials), {}, "CLAIMED"))
        if number == len(self._trials):
            self._trials.append(trial)
            self.number = number + 1
        else:
            before = self._trials[number]
            if before.ended:
                return
            self._places[before.status].pop(number, None)
            self._trials[number] = trial
        self._note(trial)
        if trial.ended:
            self._finish(trial)
        else:
            self._places[trial.status][number] = None

    def _note(self, trial: Trial) -> None:
        """Bring the columns up to date that hold live trials too."""
        self._errors = _grown(self._errors, len(self._trials))
        known = {} if _worthless(trial) else trial.errors
        self._errors[trial.number] = [known.get(metric, math.nan) for metric, _ in self.objective.goals]
        self._reached = _grown(self._reached, len(self._trials))
        self._reached[trial.number] = trial.epochs if trial.unfinished else math.inf
        for epoch, column in self._at.items():
            self._at[epoch] = column = _grown(column, len(self._trials))
            if trial.epochs >= epoch and np.isnan(column[trial.number, 0]):
                column[trial.number] = self._rank_at(trial, epoch)

    def _rank_at(self, trial: Trial, epoch: int) -> tuple[float, ...]:
        """The breach of limits, and the costs, when a trial had trained so far."""
        reports = [report for report in trial.reports if report.epoch <= epoch]
        spoken, objective = self.objective.pick(reports), self.objective
        if spoken is None:
            return (math.nan,) * (1 + len(objective.goals))
        if not all(math.isfinite(cost) for cost in objective.costs(reports[-1].metrics)):
            return (math.inf,) * (1 + len(objective.goals))
        return objective.breach(spoken.metrics), *objective.costs(spoken.metrics)

    def _finish(self, trial: Trial) -> None:
        self._finished.append(trial.number)
        if self.objective.several:
            return
        best = self._best
        if self.within(trial) and (best is None or (self.cost(trial), trial.number) < (self.cost(best), best.number)):
            self._best, self._improved = trial, len(self._finished)

    def within(self, trial: Trial) -> bool:
        """Whether a trial has a score, and is within the limits where there are some."""
        return math.isfinite(self.cost(trial)) and not self.objective.breach(trial.metrics)

    def rank(self, trial: Trial) -> tuple[float, float]:
        """What trials are ordered by, the lower the better: how far it is beyond the limits, then its cost."""
        return (math.inf, math.inf) if _worthless(trial) else self.objective.rank(trial.metrics)

    def cost(self, trial: Trial) -> float:
        """The trial's score, lower is better; `inf` where it diverged, failed or has none."""
        return math.inf if _worthless(trial) else self.objective.cost(trial.metrics)

    def __len__(self) -> int:
        return len(self._trials)

    def probe(self, config: Config) -> Any:
        """What `tn.probe` measures of this configuration's structure: a tuneflow.probing.measuring.Probe.

        Made on first use and kept with the study, so a resumed one does not measure again. Configurations that differ
        in Floats only are of one structure.

        Raises:
            StudyError: the study has no model and Trainer to measure; `prober` is None.
        """
        if self.prober is None:
            raise StudyError("there is nothing to probe: the study has no tn.Model and tn.Trainer.")
        return self.prober(config)

    @property
    def trials(self) -> "Trials":
        """Every trial, by number."""
        return self._view

    @property
    def finished(self) -> "Trials":
        """Trials that ended, in the order in which they ended; the diverged and failed among them."""
        return Trials(self._trials, self._finished)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return len(self._finished)

    @property
    def running(self) -> "Trials":
        return Trials(self._trials, list(self._places["RUNNING"]))

    @property
    def paused(self) -> "Trials":
        return Trials(self._trials, list(self._places["PAUSED"]))

    @property
    def claimed(self) -> int:
        """How many numbers are taken by trials that have not started."""
        return len(self._places["CLAIMED"])

    @property
    def leader(self) -> Trial | None:
        """As `best`; None where that would raise."""
        return self._best

    @property
    def stale(self) -> int:
        """How many trials have ended since the best one has; all of them where there is none."""
        return len(self._finished) - self._improved

    @property
    def best(self) -> Trial:
        """The finished trial with the best score, of those within the limits; the earliest of equals.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there are several objectives; `front` is what they have.
        """
        if self.objective.several:
            names = " and ".join(metric for metric, _ in self.objective.goals)
            raise StudyError(f"there is no single best trial for {names}; see front.")
        if self._best is None:
            near = min((t for t in self.finished if not _worthless(t)), key=self.rank, default=None)
            if near is not None and self.objective.limits and math.isfinite(self.cost(near)):
                kept = " and ".join(str(limit) for limit in self.objective.limits)
                has = ", ".join(f"{limit.metric} {near.metrics[limit.metric]:g}" for limit in self.objective.limits)
                raise NothingFinished(f"no finished trial has {kept}; trial {near.number} comes closest, with {has}.")
            raise NothingFinished(
                f"no finished trial has a score yet ({len(self._finished)} of {len(self)} ended{self._last_words()})."
            )
        return self._best

    def _last_words(self) -> str:
        trial = self._trials[self._finished[-1]] if self._finished else None
        return "" if trial is None else f"; trial {trial.number} {trial.status}: {trial.reason}"

    @property
    def front(self) -> list[Trial]:
        """The finished trials within the limits that no other one of them beats in every objective, by number; with one
        objective, the best."""
        scored = [t for t in self.finished if not _worthless(t) and not self.objective.breach(t.metrics)]
        costs = np.array([self.objective.costs(t.metrics) for t in scored]).reshape(
            len(scored), len(self.objective.goals)
        )
        beaten = [bool(((costs <= own).all(1) & (costs < own).any(1)).any()) for own in costs]
        return sorted((t for t, lost in zip(scored, beaten, strict=True) if not lost), key=lambda t: t.number)

    @property
    def costs(self) -> NDArray[np.float64]:
        """Scores turned so that lower is better: shape (n,), or (n, k) with k > 1 objectives.

        inf for trials that diverged or failed, NaN for those that have not ended.
        """
        count = len(self._trials)
        if count > len(self._costs) or len(self._finished) != self._costed:
            self._fill_costs(count)
        costs = self._costs[:count]
        return _read_only(costs if self.objective.several else costs[:, 0])

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors, shaped as `costs`, of what speaks for each trial, ended or not; NaN where none is known."""
        errors = self._errors[: len(self._trials)]
        return _read_only(errors if self.objective.several else errors[:, 0])

    @property
    def breaches(self) -> NDArray[np.float64]:
        """How far each bound of the limits is passed, in units of its metric: shape (n, c) for c bounds.

        0 or less within, inf for trials that diverged or failed, NaN for those that have not ended.
        """
        costs = self.costs
        return _read_only(self._breaches[: len(costs)])

    def _fill_costs(self, count: int) -> None:
        self._costs, self._breaches = _grown(self._costs, count), _grown(self._breaches, count)
        for number in self._finished[self._costed :]:
            trial = self._trials[number]
            if _worthless(trial):
                self._costs[number] = self._breaches[number] = math.inf
                continue
            self._costs[number] = self.objective.costs(trial.metrics)
            self._breaches[number] = self.objective.excesses(trial.metrics)
        self._costed = len(self._finished)

    @property
    def values(self) -> NDArray[np.float64]:
        """Scores as the metrics give them, shaped as `costs`; NaN for failures and for trials that have not ended."""
        costs = np.where(np.isfinite(self.costs), self.costs, np.nan)
        signs = np.array([-1.0 if maximize else 1.0 for _, maximize in self.objective.goals])
        return _read_only(costs * (signs if self.objective.several else signs[0]))

    def costs_at(self, epoch: int) -> NDArray[np.float64]:
        """What spoke for each trial when it had trained `epoch` epochs, as costs: shaped as `costs`.

        NaN for trials that did not come so far, inf for those that diverged there. With one objective and at="best"
        it is the best of the epochs until then.
        """
        costs = self._ranks_at(epoch)[:, 1:]
        return _read_only(costs if self.objective.several else costs[:, 0])

    def breach_at(self, epoch: int) -> NDArray[np.float64]:
        """How far each trial was beyond the limits in all, each as a share of its bound, as `costs_at`; shape (n,)."""
        return _read_only(self._ranks_at(epoch)[:, 0])

    def _ranks_at(self, epoch: int) -> NDArray[np.float64]:
        count = len(self._trials)
        if epoch not in self._at:
            column = self._at[epoch] = np.full((max(64, count), 1 + len(self.objective.goals)), np.nan)
            for trial in self._trials:
                if trial.epochs >= epoch:
                    column[trial.number] = self._rank_at(trial, epoch)
        return self._at[epoch][:count]

    @property
    def reached(self) -> NDArray[np.float64]:
        """Shape (n,): after how many epochs each trial stands or was stopped by a scheduler; inf where it is complete.

        Complete is what came to its own end: the full length, the trainer's patience, a failure.
        """
        return _read_only(self._reached[: len(self._trials), 0])

    @property
    def units(self) -> NDArray[np.float64]:
        """Shape (n, len(space)): configurations in the unit cube; NaN where not active or not known yet."""
        count = len(self._trials)
        self._unplaced += range(self._placed, count)
        self._placed = count
        self._units = _grown(self._units, count)
        for number in self._unplaced:
            if self._trials[number].status != "CLAIMED":
                self._units[number] = self.space.to_unit(self._trials[number].config)
        self._unplaced = [n for n in self._unplaced if self._trials[n].status == "CLAIMED"]
        return _read_only(self._units[:count])


class Trials(Sequence[Trial]):
    """A read-only view of some trials, or of all of them, without a copy."""

    def __init__(self, trials: list[Trial], places: Sequence[int] | None) -> None:
        self._trials, self._places = trials, places

    def __len__(self) -> int:
        return len(self._trials if self._places is None else self._places)

    @property
    def numbers(self) -> NDArray[np.intp]:
        """Their numbers, in this order."""
        return np.array(range(len(self)) if self._places is None else self._places, dtype=np.intp)

    @overload
    def __getitem__(self, place: int) -> Trial: ...
    @overload
    def __getitem__(self, place: slice) -> list[Trial]: ...
    def __getitem__(self, place: int | slice) -> Trial | list[Trial]:
        if self._places is None:
            return self._trials[place]
        if isinstance(place, slice):
            return [self._trials[i] for i in self._places[place]]
        return self._trials[self._places[place]]

    def __repr__(self) -> str:
        return f"<{len(self)} trials>"


def with_reports(trial: Trial, reports: Iterable[Report], objective: Objective) -> Trial:
    """`trial` with these reports, and with what follows from them."""
    reports = tuple(reports)
    spoken = objective.pick(reports)
    return Trial(
        trial.number,
        trial.config,
        trial.status,
        trial.reason,
        spoken.metrics if spoken else {},
        spoken.errors if spoken else {},
        reports[-1].epoch if reports else trial.parent[1] if trial.parent else 0,
        sum(report.seconds for report in reports),
        reports,
        trial.detail,
        trial.parent,
    )


def with_status(trial: Trial, status: Status, reason: str = "", detail: str = "", seconds: float = 0.0) -> Trial:
    """`trial` as it stands or ended now, `seconds` longer than its reports say."""
    facts = (trial.metrics, trial.errors, trial.epochs, trial.seconds + seconds, trial.reports)
    return Trial(trial.number, trial.config, status, reason, *facts, detail, trial.parent)


def _worthless(trial: Trial) -> bool:
    return trial.status in WORTHLESS or not trial.metrics


def _grown(array: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """`array` with room for `rows` rows and more, NaN where it had none."""
    if rows <= len(array):
        return array
    bigger = np.full((max(64, 2 * rows), array.shape[1]), np.nan)
    bigger[: len(array)] = array
    return bigger


def _read_only(array: NDArray[np.float64]) -> NDArray[np.float64]:
    view = array.view()
    view.flags.writeable = False
    return view
