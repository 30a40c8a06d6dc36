"""Columns: the trials of a study as NumPy arrays, so that a decision at 10,000 trials does not walk Python objects."""

import math

import numpy as np

from tuneflow.history.objective import Objective
from tuneflow.history.trial import WORTHLESS, Report, Trial, has_score
from tuneflow.space.coordinates import Array
from tuneflow.space.search_space import Config, SearchSpace


class Columns:
    """Read-only arrays with a row for each of n trials, brought up to date as trials report and end.

    Attributes:
        space, objective: the study's.
        lengths: every full length of a study that was extended, the first one first; empty for any other.
    """

    def __init__(self, space: SearchSpace, objective: Objective) -> None:
        self.space, self.objective = space, objective
        self.lengths: tuple[int, ...] = ()
        self._trials: list[Trial] = []  # by number
        self._finished: list[int] = []  # numbers, in the order in which the trials ended
        self._observed: list[int] = []  # the same without those that extend others
        self._costs = np.empty((0, len(objective.goals)))
        self._errors = np.empty((0, len(objective.goals)))
        self._breaches = np.empty((0, len(objective.units)))
        self._units = np.empty((0, len(space)))
        self._reached = np.empty((0, 1))
        self._repeated = np.empty((0, 1))
        self._ranks: dict[int, Array] = {}  # epoch to breach and costs, for the epochs that were asked for
        self._costed = self._mapped = 0  # how far the columns are filled
        self._unmapped: list[int] = []  # claimed trials, whose configuration is not known yet
        self._firsts: dict[bytes, int] = {}  # configuration to the first trial of it; see `first`
        self._unkeyed: list[int] = []  # claimed trials that are not among these yet
        self._keyed = 0

    @property
    def costs(self) -> Array:
        """Scores turned so that lower is better, shape (n,), or (n, k) with k > 1 objectives.

        inf for trials that diverged or failed, NaN for those that have not ended.
        """
        count = len(self._trials)
        if count > len(self._costs) or len(self._finished) != self._costed:
            self._fill_costs(count)
        return self._by_goal(self._costs[:count])

    @property
    def errors(self) -> Array:
        """Standard errors of the trials' scores, ended or not, shaped as `costs`; NaN where none is known."""
        return self._by_goal(self._errors[: len(self._trials)])

    @property
    def breaches(self) -> Array:
        """Excess over each bound of the limits, in units of its metric, shape (n, c) for c bounds.

        0 or less within, inf for trials that diverged or failed, NaN for those that have not ended.
        """
        count = len(self.costs)  # which fills both
        return _read_only(self._breaches[:count])

    @property
    def values(self) -> Array:
        """Scores as the metrics give them, shaped as `costs`; NaN for failures and for trials that have not ended."""
        costs = np.where(np.isfinite(self.costs), self.costs, np.nan)
        signs = np.array([-1.0 if maximize else 1.0 for _, maximize in self.objective.goals])
        return _read_only(costs * (signs if self.objective.several else signs[0]))

    @property
    def common_epoch(self) -> float:
        """The first full length of a study that was extended, at which trials of any length compare; inf in others."""
        return self.lengths[0] if len(self.lengths) > 1 else math.inf

    @property
    def comparable_costs(self) -> Array:
        """Costs of the trials at the common epoch, shaped as `costs`; those themselves unless the study was extended.

        A trial that went further counts with what it had there, running or ended. One that extends another is NaN.
        """
        first, costs = self.common_epoch, self.costs
        if math.isinf(first):
            return costs
        beyond = [t.number for t in self._trials if t.epochs > first and t.status not in WORTHLESS]
        costs = costs.copy()
        costs[beyond] = self.costs_at(int(first))[beyond]
        return _read_only(costs)

    def curve(self, trial: Trial) -> tuple[Report, ...]:
        """Return a trial's reports from its start on, with those of the trials that it extends."""
        reports = tuple(trial.reports)
        while trial.extends and trial.parent is not None:
            trial = self._trials[trial.parent[0]]
            reports = (*trial.reports, *reports)
        return reports

    def costs_at(self, epoch: int) -> Array:
        """Costs that the trials had after `epoch` epochs, shaped as `costs`.

        NaN for trials that did not come so far, inf for those that diverged there. With one objective and at="best"
        it is the best of the epochs until then.
        """
        return self._by_goal(self._ranks_at(epoch)[:, 1:])

    def breach_at(self, epoch: int) -> Array:
        """Sum of the excesses over the limits after `epoch` epochs, each as a share of its bound; shape (n,)."""
        return _read_only(self._ranks_at(epoch)[:, 0])

    @property
    def reached(self) -> Array:
        """Epochs after which each trial stands or was stopped by a scheduler, shape (n,); inf where it is complete.

        A trial that came to its own end is complete: the full length, the trainer's patience, a failure.
        """
        return _read_only(self._reached[: len(self._trials), 0])

    @property
    def units(self) -> Array:
        """Configurations in the unit cube, shape (n, len(space)); NaN where not active or not known yet."""
        count = len(self._trials)
        self._unmapped += range(self._mapped, count)
        self._mapped = count
        self._units = _grown(self._units, count)
        for number in self._unmapped:
            if self._trials[number].status != "CLAIMED":
                self._units[number] = self.space.to_unit(self._trials[number].config)
        self._unmapped = [n for n in self._unmapped if self._trials[n].status == "CLAIMED"]
        return _read_only(self._units[:count])

    @property
    def repeated(self) -> Array:
        """The number of the trial whose configuration each trains again on purpose, shape (n,); NaN for most."""
        return _read_only(self._repeated[: len(self._trials), 0])

    def first(self, config: Config) -> int | None:
        """Return the number of the first trial with this configuration, forks apart; None where it was not tried."""
        units = self.units
        new, self._keyed = [*self._unkeyed, *range(self._keyed, len(units))], len(units)
        self._unkeyed = [number for number in new if self._trials[number].status == "CLAIMED"]
        for number in new:
            trial = self._trials[number]
            if trial.status != "CLAIMED" and trial.parent is None:
                key = units[number].tobytes()
                self._firsts[key] = min(number, self._firsts.get(key, number))
        return self._firsts.get(self.space.to_unit(config).tobytes())

    def _update(self, trial: Trial) -> None:
        """Bring the columns up to date that hold live trials too."""
        self._errors = _grown(self._errors, len(self._trials))
        errors = trial.errors if has_score(trial) else {}
        self._errors[trial.number] = [errors.get(metric, math.nan) for metric, _ in self.objective.goals]
        self._repeated = _grown(self._repeated, len(self._trials))
        self._repeated[trial.number] = math.nan if trial.repeats is None else trial.repeats
        self._reached = _grown(self._reached, len(self._trials))
        self._reached[trial.number] = trial.epochs if trial.unfinished else math.inf
        for epoch, column in self._ranks.items():
            self._ranks[epoch] = column = _grown(column, len(self._trials))
            if trial.epochs >= epoch and np.isnan(column[trial.number, 0]):
                column[trial.number] = self._rank_at(trial, epoch)

    def _fill_costs(self, count: int) -> None:
        self._costs, self._breaches = _grown(self._costs, count), _grown(self._breaches, count)
        for number in self._finished[self._costed :]:
            trial = self._trials[number]
            if has_score(trial):
                self._costs[number] = self.objective.costs(trial.metrics)
                self._breaches[number] = self.objective.excesses(trial.metrics)
            else:
                self._costs[number] = self._breaches[number] = math.inf
        self._costed = len(self._finished)

    def _ranks_at(self, epoch: int) -> Array:
        """Breach and costs of each trial after `epoch` epochs, shape (n, 1 + k)."""
        count = len(self._trials)
        if epoch not in self._ranks:
            column = self._ranks[epoch] = np.full((max(64, count), 1 + len(self.objective.goals)), np.nan)
            for trial in self._trials:
                if trial.epochs >= epoch:
                    column[trial.number] = self._rank_at(trial, epoch)
        return self._ranks[epoch][:count]

    def _rank_at(self, trial: Trial, epoch: int) -> tuple[float, ...]:
        reports = [report for report in self.curve(trial) if report.epoch <= epoch]
        if trial.extends and trial.parent is not None and epoch <= trial.parent[1]:
            reports = []  # they are its parent's
        selected, objective = self.objective.pick(reports), self.objective
        if reports and trial.status in WORTHLESS and not objective.bounded(reports[-1].metrics):
            return (math.inf,) * (1 + len(objective.goals))
        if selected is None:
            return (math.nan,) * (1 + len(objective.goals))
        return objective.breach(selected.metrics), *objective.costs(selected.metrics)

    def _by_goal(self, array: Array) -> Array:
        return _read_only(array if self.objective.several else array[:, 0])


def _grown(array: Array, rows: int) -> Array:
    """Return `array` with room for `rows` rows and more, NaN where it had none."""
    if rows <= len(array):
        return array
    bigger = np.full((max(64, 2 * rows), array.shape[1]), np.nan)
    bigger[: len(array)] = array
    return bigger


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
