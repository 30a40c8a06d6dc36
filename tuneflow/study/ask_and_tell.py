"""Ask and tell: trials that are trained elsewhere, given out and judged by the scheduler's decisions."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from tuneflow.errors import StudyError, did_you_mean, listed
from tuneflow.history.history import OPEN_END
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, Report, Status, Trial
from tuneflow.schedule.scheduler import Stop
from tuneflow.store.ownership import RemoteOwner
from tuneflow.study.absent_owners import waiting_line
from tuneflow.study.driver import Driver
from tuneflow.train.reported_metrics import ReportedMetrics, error_of, numbers_of
from tuneflow.validate import check_flag, is_int, is_number, is_whole, shown


class Told(Enum):
    """The metrics of a call of `tell` that names none."""

    NOTHING = "nothing"

    def __repr__(self) -> str:
        return self.value


class AskAndTell:
    """The trials of a study that its user trains.

    Their states are outside, so a trial whose process died keeps its reports. Several threads may ask and tell.

    Args:
        driver: the study's.
        begin: called before every trial.
        scheduled: True where the scheduler decides what `ask` gives; False where its decisions are about what the
            study itself trains, and `ask` gives new trials only.
    """

    def __init__(self, driver: Driver, begin: Callable[[], None], scheduled: bool) -> None:
        self._driver, self._ledger, self._history = driver, driver.ledger, driver.ledger.history
        self._begin, self._scheduled = begin, scheduled
        self._limit = math.inf
        self._given: list[Trial] = []  # what the scheduler's decision gave out
        self._since: dict[int, float] = {}  # when a trial was given out, or told of last
        self._shown: set[str] = set()  # the owners elsewhere that it has said are waited for
        self._lock = threading.RLock()

    def ask(self, limit: float) -> Trial | None:
        """Return the next trial to be trained, with at most `limit` trials in all; None where there is none now."""
        with self._lock:
            self._begin()
            self._limit, self._driver.exhausted = limit, False
            self._sync()
            trial = self._next() if self._scheduled else self._driver.new(limit)
            if trial is not None:
                self._since[trial.number] = time.perf_counter()
            self._ledger.commit()
            self._driver.progress.asked(self._history, limit)
            if trial is None:
                self._show_waiting()
            return trial

    def tell(self, number: int, reported: ReportedMetrics | None, done: bool) -> Trial:
        """Record an epoch of a trial, if one is reported; end the trial where it is over, or the scheduler says so."""
        with self._lock:
            trial = self._own(number, done and reported is None)
            if trial.ended:
                return trial
            try:
                if reported is None:
                    self._end_reported(trial)
                else:
                    self._report(trial, reported, done)
            finally:
                self._commit()
            return self._history.trials[number]

    def fail(self, number: int, reason: str) -> Trial:
        """Record that a trial failed."""
        with self._lock:
            if not self._own(number, ends=True).ended:
                try:
                    self._end(number, "FAILED", reason)
                finally:
                    self._commit()
            return self._history.trials[number]

    def number_of(self, trial: Any) -> int:
        """Return the number of a trial, which is one of this study.

        Raises:
            TypeError: it is neither a trial nor a number.
            StudyError: it is none of this study.
        """
        number = trial.number if isinstance(trial, Trial) else trial
        if not is_whole(number, 0):
            raise TypeError(f"tell: needs a trial that ask() returned, or its number, got {trial!r}.")
        with self._lock:
            self._ledger.sync()
            if number >= len(self._history):
                raise StudyError(f"tell: trial {number} does not exist; tell() needs a running trial.")
            here = self._history.trials[int(number)]
        if isinstance(trial, Trial) and here.status != "CLAIMED" and repr(trial.config) != repr(here.config):
            raise StudyError(
                f"tell: trial {number} has {trial.config}, and the one of this study {here.config}; tell the study that"
                " was asked for it."
            )
        return int(number)

    # Asking.

    def _sync(self) -> None:
        """Read what other processes wrote, and free the trials of those that died."""
        self._ledger.sync()
        if not all(map(self._ledger.owns, self._history.running.numbers.tolist())):
            self._ledger.recover()

    def _show_waiting(self) -> None:
        """Show once for each owner elsewhere that its trials are waited for."""
        for owner in self._ledger.store.waiting():
            if owner.trials and owner.owner not in self._shown:
                self._shown.add(owner.owner)
                self._driver.progress.waits(waiting_line(owner))

    def _next(self) -> Trial | None:
        self._given.clear()
        while not self._given:
            decision = self._driver.decide(self._limit)
            if isinstance(decision, Stop):
                self._driver.stop(decision)
            elif not self._driver.carry_out(decision, self._limit, self):
                return None
        return self._given[0]

    def start(self, trial: Trial, until: int) -> None:
        """Give out a trial of this process, to be trained to epoch `until`."""
        until = min(until, self._history.epochs)
        self._given.append(self._ledger.assign(trial.number, None if until >= OPEN_END else until))

    def proceed(self, number: int, until: int) -> None:
        """Give out a paused trial again, unless another process has taken it."""
        trial = self._ledger.take(number, backed=False)
        if trial is None:
            self._ledger.sync()
        elif trial.epochs < self._history.epochs:
            self.start(trial, until)
        else:  # its process died between its last epoch and its end
            self._driver.end(number, "DONE")

    # Telling.

    def _own(self, number: int, ends: bool) -> Trial:
        """Return a trial that may be told of by this process: a running one, or one that the scheduler has stopped.

        Args:
            number: the trial's.
            ends: it is to end without another report, which a trial may that waits for the scheduler.

        Raises:
            StudyError: it is neither.
        """
        if not self._ledger.owns(number):
            self._sync()
        trial = self._history.trials[number]
        stopped = trial.status == "STOPPED" and trial.detail == CUT
        if stopped or (trial.status == "RUNNING" and self._ledger.owns(number)):
            return trial
        interrupted = trial.until is None or trial.epochs < trial.until
        if trial.status == "PAUSED" and (ends or interrupted):
            return self._ledger.take(number, backed=False) or self._own(number, ends)
        with_whom = next((owner for owner in self._ledger.store.waiting() if number in owner.trials), None)
        raise StudyError(f"tell: trial {number} {_state(trial) if with_whom is None else _elsewhere(with_whom)}.")

    def _report(self, trial: Trial, reported: ReportedMetrics, done: bool) -> None:
        number = trial.number
        report = Report(trial.epochs + 1, reported.metrics, reported.errors, self._seconds(number))
        trial = self._ledger.report(number, report, None)
        try:
            self._driver.call(trial)
        finally:  # a callback that fails costs no trial
            self._settle(trial, done)
        if not done:
            self._stop()

    def _settle(self, trial: Trial, done: bool) -> None:
        """End or pause a trial that has reported, where it is over or as far as it was to go."""
        loss = _training_loss(trial.reports[-1].metrics)
        if not math.isfinite(loss):
            self._end(trial.number, "DIVERGED", f"loss is {loss} at epoch {trial.epochs}")
        elif done or trial.epochs >= self._history.epochs:
            self._end(trial.number, "DONE")
        elif trial.until is not None and trial.epochs >= trial.until:
            self._since.pop(trial.number, None)
            self._ledger.pause(trial.number)

    def _stop(self) -> None:
        """Carry out the scheduler's stops."""
        while isinstance(decision := self._driver.decide(self._limit), Stop):
            self._driver.stop(decision)

    def _end_reported(self, trial: Trial) -> None:
        if not trial.reports:
            raise StudyError(
                f"tell: trial {trial.number} has no report yet, and cannot end as DONE without one; tell its metrics,"
                " or tell(trial, None, reason=...) if it failed."
            )
        self._end(trial.number, "DONE")

    def _end(self, number: int, status: Status, reason: str = "") -> None:
        over = self._since.pop(number, None)
        reported = self._history.trials[number].reports and status != "FAILED"
        seconds = 0.0 if over is None or reported else time.perf_counter() - over
        self._driver.end(number, status, reason, seconds=seconds)

    def _seconds(self, number: int) -> float:
        """Return the seconds since a trial was given out or told of last; 0 where another process gave it out."""
        now = time.perf_counter()
        before, self._since[number] = self._since.get(number, now), now
        return now - before

    def _commit(self) -> None:
        if self._ledger.commit():  # another process has ended one of ours
            self._ledger.sync()
        self._driver.progress.asked(self._history, self._limit)


def check_words(number: int, done: Any, reason: Any) -> None:
    """Raise TypeError unless `done` is a truth value and `reason` a text, as a call of `tell` needs them."""
    check_flag(f"tell: trial {number}: done", done)
    if not isinstance(reason, str):
        raise TypeError(f"tell: trial {number}: reason needs to be a string, got {reason!r}; write reason=str(...).")


def told(metrics: Any, errors: Any, objective: Objective, what: str) -> ReportedMetrics:
    """Return what a call of `tell` reports.

    Args:
        metrics: metrics by name, or one number for a single objective; in place of a number a pair with its error.
        errors: standard errors by name, or one number for a single objective; None without.
        objective: the study's.
        what: opens the messages.

    Raises:
        TypeError: something is not a number.
        ValueError: a standard error is negative or not finite, or of no metric.
        StudyError: an objective, or a metric with limits, is missing.
    """
    metrics = _by_name(metrics, objective, what)
    _check_held(metrics, what)
    reported = numbers_of(metrics, what)
    objective.costs(reported.metrics)
    objective.excesses(reported.metrics)
    for name, error in ({} if errors is None else _by_name(errors, objective, f"{what}: errors")).items():
        if name not in reported.metrics:
            near = did_you_mean(name, reported.metrics)
            raise ValueError(
                f'{what}: errors names "{name}", which is not among the metrics.{near} They are'
                f" {listed(reported.metrics)}."
            )
        number = error_of(error, f'{what}: "{name}"')
        if math.isfinite(reported.metrics[name]):
            reported.errors[name] = number
    return reported


def _check_held(metrics: Mapping[str, Any], what: str) -> None:
    """Raise ValueError for a number that no float can hold, which a trial's own code may still report as infinite."""
    for name, value in metrics.items():
        if is_int(value) and not is_number(value):
            raise ValueError(f'{what}: "{name}" needs to be a number that a float can hold, got {shown(value)}.')


def _by_name(values: Any, objective: Objective, what: str) -> Mapping[str, Any]:
    if isinstance(values, Mapping):
        return values
    if isinstance(values, bool):
        raise TypeError(f"{what}: needs a number, or a dict of numbers, got {values}; done= says if the trial ends.")
    if objective.several:
        names = listed(metric for metric, _ in objective.goals)
        raise TypeError(f"{what}: several objectives need a dict of {names}, got {values!r}.")
    return {objective.metric: values}


def _training_loss(metrics: Mapping[str, float]) -> float:
    """Return the loss that has to be finite for training to go on, as in a tn.loop; 0 where none is reported."""
    return metrics.get("train_loss", metrics.get("loss", 0.0))


def _elsewhere(owner: RemoteOwner) -> str:
    return f"is with {owner}; {owner.way_out}"


def _state(trial: Trial) -> str:
    """Return the reason in words why a trial cannot be told of."""
    if trial.status == "PAUSED":
        return (
            f"is PAUSED at epoch {trial.epochs}, as far as the scheduler wanted it; ask() gives it back when it is to"
            f" go on, and tell({trial.number}) ends it"
        )
    if trial.status == "RUNNING":
        return "was given to another process or study object, which is still there; tell it there, or close that one"
    return f"is {trial.status}; tell() needs a running trial"
