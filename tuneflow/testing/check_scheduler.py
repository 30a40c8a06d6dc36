"""The check of a scheduler: what it decides in made-up studies."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tuneflow.errors import ending_where, plural
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import CUT, Report, Status, Trial, with_reports, with_status
from tuneflow.schedule.scheduler import Continue, Fork, Scheduler, Start, Stop, Wait
from tuneflow.seeds import stream
from tuneflow.space.parameters import Float
from tuneflow.space.search_space import SearchSpace
from tuneflow.testing.common import require, untouched


def check_scheduler(make: Callable[[], Scheduler], trials: int = 9, epochs: int = 9, all_start: bool = True) -> None:
    """Check that a scheduler returns valid decisions, from the history and its rng alone, until every trial has ended.

    Runs made-up studies of `trials` trials: with one, two and five workers; with trials that fail and diverge; with
    equal scores; with interrupted slices; with trials of one epoch; and with two objectives. In each of them a fresh
    scheduler decides what the kept one does; only paused trials are continued, and further than they are; only live
    ones are stopped; no trial is left without a decision; the study comes to its end. A ValueError of `check` may
    refuse epochs and objectives that the scheduler does not support.

    Args:
        make: returns a new scheduler, configured alike each time.
        trials: number of trials of a study.
        epochs: full length of a trial.
        all_start: all of the trials have to start, which does not hold for a population that has come to its end.

    Raises:
        AssertionError: a rule is broken; the message names the case and the rule.

    Example:
        >>> from tuneflow.schedule.halving import Halving
        >>> check_scheduler(Halving, trials=4, epochs=4)
    """
    for case in CASES:
        history = _scheduled(make, case, trials, case.epochs or epochs)
        require(history is not None or case != CASES[0], case.name, f"it refuses trials of {plural(epochs, 'epoch')}")
        started = trials if history is None else len(history)
        require(started == trials or not all_start, case.name, f"only {started} of {trials} trials were started")


@dataclasses.dataclass(frozen=True)
class Case:
    """A made-up study: the number of workers, the full length, and the fates of trials."""

    name: str
    workers: int = 2
    epochs: int | None = None
    broken: bool = False
    equal: bool = False
    interrupted: bool = False
    goals: tuple[tuple[str, bool], ...] = (("loss", False),)


CASES = [
    Case("scheduler"),
    Case("one worker", workers=1),
    Case("five workers", workers=5),
    Case("failures", broken=True),
    Case("equal scores", equal=True),
    Case("interrupted", interrupted=True),
    Case("interrupted failures, five workers", workers=5, broken=True, interrupted=True),
    Case("one epoch", epochs=1),
    Case("two objectives", goals=(("loss", False), ("size", True))),
]


def _scheduled(make: Callable[[], Scheduler], case: Case, trials: int, epochs: int) -> History | None:
    """Return the history of a made-up study, at its end; None when the scheduler refuses it."""
    history, kept = History(SearchSpace(x=Float(0.0, 1.0)), Objective(case.goals), 0, epochs), make()
    try:
        kept.check(history)
    except ValueError:
        return None
    until: dict[int, int] = {}
    for _ in range(50 * trials * epochs):
        history.remaining = trials - len(history)
        with untouched(case.name):
            decision, fresh = (_decided(scheduler, history, case) for scheduler in (kept, make()))
        found = f"a fresh scheduler decided {fresh}, the kept one {decision}"
        require(decision == fresh, case.name, f"{found}; a decision needs to follow from space, history and rng alone")
        if not _carry_out(decision, history, until, case) and not _train(history, until, case):
            break
    else:
        raise AssertionError(f"{case.name}: the study never came to its end")
    left = [trial.number for trial in history.trials if not trial.ended]
    require(not left, case.name, f"trials {left} never ended")
    return history


def _decided(scheduler: Scheduler, history: History, case: Case) -> Any:
    before = len(history), history.ended
    try:
        decision = scheduler.next(history.space, history, stream(0, "schedule", *before))
    except Exception as error:
        raise ending_where(error, AssertionError(f"{case.name}: {type(error).__name__}: {error}")) from None
    require((len(history), history.ended) == before, case.name, "the history was changed")
    return decision


def _carry_out(decision: Any, history: History, until: dict[int, int], case: Case) -> bool:
    """Apply a decision; False when it is to wait, or there is no worker or no trial left for it."""
    known = range(len(history))
    if isinstance(decision, Stop | Continue | Fork):
        require(decision.trial in known, case.name, f"{decision}: there is no trial of this number")
    if isinstance(decision, Start | Continue | Fork):
        whole = isinstance(decision.until, int | np.integer)
        require(whole and decision.until > 0, case.name, f"{decision}: until needs to be a whole number above 0")
    if isinstance(decision, Stop):
        trial = history.trials[decision.trial]
        require(not trial.ended, case.name, f"{decision} stops a trial that has ended")
        until.pop(trial.number, None)
        history.record(dataclasses.replace(trial, status="STOPPED", reason=decision.reason, detail=CUT))
        return True
    if len(until) >= case.workers or isinstance(decision, Wait):
        return False
    if isinstance(decision, Continue):
        trial = history.trials[decision.trial]
        require(trial.status == "PAUSED", case.name, f"{decision} continues a trial that is {trial.status}")
        require(decision.until > trial.epochs, case.name, f"{decision} goes no further than epoch {trial.epochs}")
        until[trial.number] = decision.until
        history.record(dataclasses.replace(trial, status="RUNNING"))
        return True
    require(isinstance(decision, Start | Fork), case.name, f"{decision!r} is not a decision")
    if history.remaining < 1:
        return False
    new = Trial(len(history), {"x": (len(history) * 0.37) % 1.0})
    if isinstance(decision, Fork):
        require(decision.until > decision.epoch, case.name, f"{decision} goes no further than its parent was")
        came = history.trials[decision.trial].epochs
        require(came >= decision.epoch, case.name, f"{decision} goes on from epoch {decision.epoch}, there are {came}")
        parent = (decision.trial, decision.epoch)
        new = Trial(len(history), decision.config, epochs=decision.epoch, parent=parent)
    until[new.number] = decision.until
    history.record(new)
    return True


def _train(history: History, until: dict[int, int], case: Case) -> bool:
    """Train every running trial for one epoch; False when none runs."""
    ran = bool(until)
    for number, end in list(until.items()):
        trial = history.trials[number]
        epoch = trial.epochs + 1
        if case.broken and number % 5 == 3 and epoch == 2:
            del until[number]
            history.record(dataclasses.replace(trial, status="FAILED", reason="made up"))
            continue
        loss = 1.0 if case.equal else trial.config["x"] + 1.0 / epoch
        diverged = case.broken and number % 5 == 1 and epoch == 3
        report = Report(epoch, {"loss": math.nan if diverged else loss, "size": float(number % 4)})
        trial = with_reports(trial, (*trial.reports, report), history.objective)
        status: Status = "DONE" if epoch == history.epochs else "PAUSED" if epoch >= end else "RUNNING"
        if case.interrupted and status == "RUNNING" and (number + epoch) % 3 == 0:
            status = "PAUSED"
        if diverged:
            status = "DIVERGED"
        if status != "RUNNING":
            del until[number]
        history.record(with_status(trial, status))
    return ran
