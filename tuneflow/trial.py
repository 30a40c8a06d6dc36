"""What happened: Report, Trial, Slice and History. Facts, frozen and JSON-able."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from tuneflow.errors import NothingFinished, StudyError, did_you_mean, listed
from tuneflow.space import Config, SearchSpace

Status = Literal["RUNNING", "PAUSED", "DONE", "STOPPED", "DIVERGED", "FAILED"]
ENDED = ("DONE", "STOPPED", "DIVERGED", "FAILED")


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
        status: RUNNING, PAUSED, or how it ended: DONE, STOPPED, DIVERGED, FAILED.
        reason: why it ended, for all but DONE; a failure's traceback follows in `detail`.
        metrics, errors: those of the report that speaks for the trial (best epoch or last).
        epochs: how many epochs were trained.
        seconds: the sum over its epochs.
        reports: one for each epoch.
    """

    number: int
    config: Config
    status: Status = "RUNNING"
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reports: tuple[Report, ...] = ()
    detail: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Slice:
    """The unit of work: take `trial` from its state at epoch `start` on, to epoch `until` at most."""

    trial: int
    start: int
    until: int


@dataclass(frozen=True, slots=True)
class Objective:
    """What a study looks for: which metric, which way, and which epoch speaks for a trial.

    Args:
        at: "best", the trial's best epoch, or "last". Score, kept state and scheduler follow it alike.
    """

    metric: str
    maximize: bool = False
    at: Literal["best", "last"] = "best"

    def cost(self, metrics: Mapping[str, float]) -> float:
        """The metric, turned so that lower is better; NaN counts as the worst.

        Raises:
            StudyError: the metric was not reported; those that were are named.
        """
        try:
            value = metrics[self.metric]
        except KeyError:
            near = did_you_mean(self.metric, metrics)
            raise StudyError(f'metric "{self.metric}" was never reported.{near} Reported: {listed(metrics)}.') from None
        if value != value:
            return math.inf
        return -value if self.maximize else value

    def pick(self, reports: Sequence[Report]) -> Report | None:
        """The report that speaks for a trial: the earliest best one, or the last; None without one."""
        if not reports:
            return None
        return reports[-1] if self.at == "last" else min(reports, key=lambda report: self.cost(report.metrics))


class History:
    """All trials of a study, append-only; searchers and schedulers read it and never change it.

    Attributes:
        space, objective: the study's.
        seed: the study's seed, for sequences that belong to the whole study.
        epochs: the full length of a trial.
        number: the number of the trial that is being proposed.
    """

    def __init__(self, space: SearchSpace, objective: Objective, seed: int = 0, epochs: int = 1) -> None:
        self.space, self.objective, self.seed, self.epochs = space, objective, seed, epochs
        self.number = 0
        self._trials: list[Trial] = []
        self._places: dict[str, dict[int, None]] = {"RUNNING": {}, "PAUSED": {}}
        self._finished: list[int] = []
        self._best: Trial | None = None
        self._costs = np.empty(0)
        self._units = np.empty((0, len(space)))
        self._filled = 0

    def record(self, trial: Trial) -> None:
        """Add the next trial, or replace the one of this number. The study's driver calls this."""
        number = trial.number
        if number == len(self._trials):
            self._trials.append(trial)
            if number >= len(self._costs):
                self._costs = np.concatenate([self._costs, np.full(max(64, len(self._costs)), np.nan)])
            self.number = number + 1
        elif number < len(self._trials):
            self._places.get(self._trials[number].status, {}).pop(number, None)
            self._trials[number] = trial
        else:
            raise StudyError(f"trial {number} was recorded before trial {len(self._trials)}")
        if not trial.ended:
            self._places[trial.status][number] = None
            return
        self._finished.append(number)
        cost = self.cost(trial)
        self._costs[number] = cost
        if math.isfinite(cost) and (self._best is None or (cost, number) < (self.cost(self._best), self._best.number)):
            self._best = trial

    def cost(self, trial: Trial) -> float:
        """The trial's score, lower is better; `inf` where it diverged, failed or has none."""
        if trial.status in ("DIVERGED", "FAILED") or not trial.metrics:
            return math.inf
        return self.objective.cost(trial.metrics)

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def trials(self) -> "Trials":
        """Every trial, by number."""
        return Trials(self._trials, range(len(self._trials)))

    @property
    def finished(self) -> "Trials":
        """Trials that ended, in the order in which they ended; the diverged and failed among them."""
        return Trials(self._trials, self._finished)

    @property
    def running(self) -> "Trials":
        return Trials(self._trials, list(self._places["RUNNING"]))

    @property
    def paused(self) -> "Trials":
        return Trials(self._trials, list(self._places["PAUSED"]))

    @property
    def best(self) -> Trial:
        """The finished trial with the best score; the earliest of equals.

        Raises:
            NothingFinished: no trial has a score yet.
        """
        if self._best is None:
            raise NothingFinished(f"no finished trial has a score yet ({len(self._finished)} of {len(self)} ended).")
        return self._best

    @property
    def costs(self) -> NDArray[np.float64]:
        """Shape (n,): scores turned so that lower is better; inf for failures, NaN for trials not ended."""
        return _read_only(self._costs[: len(self._trials)])

    @property
    def values(self) -> NDArray[np.float64]:
        """Shape (n,): scores as the metric gives them; NaN for failures and for trials not ended."""
        costs = np.where(np.isfinite(self.costs), self.costs, np.nan)
        return _read_only(-costs if self.objective.maximize else costs)

    @property
    def units(self) -> NDArray[np.float64]:
        """Shape (n, len(space)): configurations in the unit cube; NaN where not active."""
        count = len(self._trials)
        if count > len(self._units):
            bigger = np.full((max(64, 2 * count), len(self.space)), np.nan)
            bigger[: self._filled] = self._units[: self._filled]
            self._units = bigger
        for number in range(self._filled, count):
            self._units[number] = self.space.to_unit(self._trials[number].config)
        self._filled = count
        return _read_only(self._units[:count])


class Trials(Sequence[Trial]):
    """A read-only view of some trials, without a copy."""

    def __init__(self, trials: list[Trial], places: Sequence[int]) -> None:
        self._trials, self._places = trials, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Trial: ...
    @overload
    def __getitem__(self, place: slice) -> list[Trial]: ...
    def __getitem__(self, place: int | slice) -> Trial | list[Trial]:
        if isinstance(place, slice):
            return [self._trials[i] for i in self._places[place]]
        return self._trials[self._places[place]]

    def __repr__(self) -> str:
        return f"<{len(self)} trials>"


def summarise(trial: Trial, reports: Iterable[Report], objective: Objective) -> dict[str, Any]:
    """The fields of `trial` that follow from its reports."""
    reports = tuple(reports)
    spoken = objective.pick(reports)
    return {
        "reports": reports,
        "epochs": reports[-1].epoch if reports else 0,
        "seconds": sum(report.seconds for report in reports),
        "metrics": spoken.metrics if spoken else {},
        "errors": spoken.errors if spoken else {},
    }


def _read_only(array: NDArray[np.float64]) -> NDArray[np.float64]:
    view = array.view()
    view.flags.writeable = False
    return view
