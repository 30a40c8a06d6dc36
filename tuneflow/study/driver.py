"""Driver: has carried out what searcher and scheduler decide, and writes down what comes of it."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.execute.in_order import OrderedExecutor
from tuneflow.history.history import History
from tuneflow.history.trial import CUT, Report, Slice, Trial
from tuneflow.model import Model
from tuneflow.probing.cache import Probes
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.scheduler import Continue, Decision, Fork, Scheduler, Start, Stop, Wait
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import lazy_stream, stream
from tuneflow.space.parameters import Float
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.study.budget import Budget
from tuneflow.study.ledger import Ledger
from tuneflow.study.progress import Progress
from tuneflow.study.signals import Interrupts
from tuneflow.train.job import Job

FAILURES = 5  # failed trials in a row that end a run
LANES = 16  # trials of each structure, where there are several, for which it is measured what lanes would bring


@dataclass
class Driver:
    """The loop of a study, and what happens to a trial in it.

    Args:
        call: told of every trial that reported or ended.
    """

    space: SearchSpace
    model: Model | None
    trainer: Any
    runtime: Runtime
    searcher: Searcher
    scheduler: Scheduler
    history: History
    ledger: Ledger
    probes: Probes | None
    progress: Progress
    seed: int
    paired: bool
    lag: int | None
    call: Callable[[Trial], None]

    def __post_init__(self) -> None:
        self._failures = 0
        self._no_more = False  # it was told that there is no new trial to be had

    def run(self, executor: Executor, budget: Budget) -> str:
        """Train until the budget is spent, there is nothing left to do, or somebody interrupts; why it ended.

        Raises:
            StudyError: five trials in a row failed.
        """
        self._failures, self._no_more = 0, False
        trained = sum(trial.epochs for trial in self.history.trials)
        with Interrupts() as interrupts, nullcontext() if self.lag is None else self.ledger.alone():
            why, reason = "", ""
            try:
                if self.lag is not None:
                    executor = self._ordered(executor, self.lag)
                while interrupts.wanted is None and not (why := budget.over(self.history, trained)):
                    self._decide_all(executor, budget.trials)
                    for number in self.ledger.commit():
                        executor.stop(number)
                    if not executor.busy:
                        why = self._nothing_left(budget.trials)
                        break
                    trained += self._handle(executor)
            except KeyboardInterrupt:
                reason = "interrupted"
                raise
            finally:
                executor.close()
                reason = "interrupted" if interrupts.wanted is not None else reason
                self._pause(reason)
                if reason:
                    self.progress.over(reason)
            return why

    def _nothing_left(self, most: float) -> str:
        """Why a run ends with fewer trials than it was asked for; empty when it has as many, or was asked for all."""
        left = most - len(self.history)
        if not math.isfinite(left) or left <= 0 or self.history.running:
            return ""
        if self._no_more:
            return f"{self.searcher!r} has nothing left to propose after {len(self.history)} trials"
        return f"{self.scheduler!r} starts no more trials after {len(self.history)}, and has none to train on"

    def _decide_all(self, executor: Executor, most: float) -> None:
        """Carry out decisions until there is nothing to do before the next event."""
        while not (isinstance(executor, OrderedExecutor) and executor.behind):
            self.ledger.sync()
            decision = self._decision(most)
            if isinstance(decision, Stop):
                self._stop(decision, executor)
                continue
            if not executor.free or not self._submit_for(decision, executor, most):
                return
            if self.lag is None and not executor.free:  # with lag it is asked again, as by a run that goes on from here
                return

    def _decision(self, most: float) -> Decision:
        history = self.history
        history.number = len(history)
        history.remaining = 0 if self._no_more else most - len(history) + history.claimed
        rng: Any = lazy_stream(self.seed, "schedule", len(history), history.ended)
        decision = self.scheduler.next(self.space, history, rng)
        self._check(decision)
        self.ledger.want(self.scheduler.keep(history))
        return decision

    def _check(self, decision: Decision) -> None:
        """Raise StudyError unless a decision is one, and goes further than what it goes on from."""
        if not isinstance(decision, Start | Continue | Fork | Stop | Wait):
            raise StudyError(
                f"{self.scheduler!r} decided {decision!r}; it needs to be Start, Continue, Fork, Stop or Wait."
            )
        if isinstance(decision, Stop | Wait):
            return
        at = decision.epoch if isinstance(decision, Fork) else 0
        if isinstance(decision, Continue):  # of a trial that may have been interrupted after its last epoch
            at = min(self.history.trials[decision.trial].epochs, self.history.epochs - 1)
        if isinstance(decision.until, bool) or not isinstance(decision.until, int | np.integer) or decision.until <= at:
            raise StudyError(f"{self.scheduler!r} decided {decision}: until needs to be a whole number above {at}.")

    def _submit_for(self, decision: Decision, executor: Executor, most: float) -> bool:
        """Give the executor what was decided on; False when there is nothing to give."""
        if isinstance(decision, Continue) and self.lag is not None:
            return self._go_on(self.history.trials[decision.trial], decision.until, executor)
        if isinstance(decision, Continue):
            trial = self.ledger.take(decision.trial)
            if trial is not None and trial.epochs < self.history.epochs:
                self._submit(trial, decision.until, executor)
            elif trial is not None:  # it was interrupted between its last epoch and its end
                self.end(trial.number, "DONE")
            return True
        if not isinstance(decision, Start | Fork):
            return False
        new = self._fork(decision, most) if isinstance(decision, Fork) else self.new(most)
        if new is None:
            again, self._no_more = not self._no_more, True
            return again
        reason = self.probes.screened(new.config) if self.probes else ""
        if reason:
            self.end(new.number, "SCREENED", reason)
        else:
            self._submit(new, decision.until, executor)
        return True

    def new(self, most: float) -> Trial | None:
        """A trial from the queue or the searcher, entered under a number of its own."""
        number = self.ledger.claim(most)
        if number is None:
            return None
        self.history.number = number
        config = self.ledger.store.next_queued(number)
        try:
            checked = self._proposed(number) if config is None else self.space.cast(config)
        except BaseException:
            self.ledger.release(number)
            raise
        if checked is None:
            self.ledger.release(number)
            return None
        trial = Trial(number, checked)
        self.ledger.start(trial)
        return trial

    def _proposed(self, number: int) -> Config | None:
        config = proposed(self.searcher, self.space, self.history, stream(self.seed, "search", number))
        self.progress.hear(self.searcher.said)
        return config

    def _fork(self, decision: Fork, most: float) -> Trial | None:
        config = self.space.cast(decision.config)
        number = self.ledger.claim(most)
        if number is None:
            return None
        trial = Trial(number, config, epochs=decision.epoch, parent=(decision.trial, decision.epoch))
        self.ledger.start(trial)
        return trial

    def _submit(self, trial: Trial, until: int, executor: Executor) -> None:
        work = Slice(trial.number, trial.epochs, min(until, self.history.epochs))
        state = self.ledger.state if self.lag is None else self.ledger.last
        executor.submit(work, self.trainer, self.job(trial), state(trial.number))

    def _stop(self, decision: Stop, executor: Executor) -> None:
        trial = self.history.trials[decision.trial]
        executor.stop(trial.number)
        if trial.status == "RUNNING" or self.ledger.take(trial.number) is not None:
            self.end(trial.number, "STOPPED", decision.reason, CUT)

    def job(self, trial: Trial) -> Job:
        config = self.space.resolve(trial.config)
        return Job(self.model, config, self.runtime, self.seed, trial=None if self.paired else trial.number)

    # Under lag=.

    def _ordered(self, executor: Executor, lag: int) -> OrderedExecutor:
        """`executor` with events in order, and with the slices that were under way when the last run ended."""
        self.ledger.sync()
        for trial in list(self.history.paused):
            if trial.epochs >= self.history.epochs:  # it was interrupted between its last epoch and its end
                self.ledger.retake(trial.number)
                self.end(trial.number, "DONE")
        ordered = OrderedExecutor(executor, lag, self.ledger.note)
        under_way = [(self.history.trials[n], until, self.ledger.last(n)) for n, until in self.ledger.turns()]
        for trial, _, _ in under_way:
            self.ledger.retake(trial.number)
        for trial, until, state in under_way:  # after all that could fail, so that they are written down together
            ordered.submit(Slice(trial.number, trial.epochs, until), self.trainer, self.job(trial), state)
        return ordered

    def _go_on(self, trial: Trial, until: int, executor: Executor) -> bool:
        """Train a paused trial on: submitted before it is taken, so that its turn is written down with the taking."""
        if trial.status == "PAUSED":
            self._submit(trial, until, executor)
            self.ledger.retake(trial.number)
        return True

    # Events.

    def _handle(self, executor: Executor) -> int:
        """Wait for events and write them down; how many epochs were trained."""
        epochs = 0
        for event in executor.wait():
            if self.history.trials[event.trial].status != "RUNNING":
                continue
            if isinstance(event, Reported) and event.report.epoch <= self.history.trials[event.trial].epochs:
                self.ledger.again(event.trial, event.state)
            elif isinstance(event, Reported):
                epochs += 1
                trial = self.ledger.report(event.trial, event.report, event.state)
                if self.bad(event.trial, event.report):
                    executor.stop(event.trial)
                else:
                    self.call(trial)
            else:
                self._finish(event)
        return epochs

    def _finish(self, event: Ended) -> None:
        if event.status != "DONE" or self.history.trials[event.trial].epochs >= self.history.epochs:
            self.end(event.trial, event.status, event.reason, event.detail, event.seconds)
            if self._failures >= FAILURES:
                words = f"{FAILURES} trials in a row failed, the last with {event.reason}\n{event.detail}"
                raise StudyError(words.rstrip())
        else:
            self.ledger.pause(event.trial)

    def bad(self, number: int, report: Report) -> bool:
        """End a trial as DIVERGED when an objective is not finite."""
        for metric, _ in self.history.objective.goals:
            if not math.isfinite(report.metrics[metric]):
                self.end(number, "DIVERGED", f"{metric} is {report.metrics[metric]} at epoch {report.epoch}")
                return True
        return False

    def end(self, number: int, status: Any, reason: str = "", detail: str = "", seconds: float = 0.0) -> None:
        trial = self.ledger.end(number, status, reason, detail, seconds)
        self.progress.ended(trial)
        self.call(trial)
        if status == "DONE":
            left = self.progress.total - self.history.ended
            if math.isfinite(left) and self._shapes() <= max(1.0, left / LANES):
                self.progress.suggest_lanes(self.trainer, self.job(trial), trial.seconds * left)
        self._failures = self._failures + 1 if status == "FAILED" else 0

    def _shapes(self) -> float:
        """About how many structures there are: only trials of one are trained as one program."""
        axes = self.space.coordinates
        return math.prod(axis.parameter.levels for axis in axes if not isinstance(axis.parameter, Float))

    def _pause(self, reason: str) -> None:
        """What was running here when a run ended goes on in the next."""
        try:
            for number in self.ledger.running():
                self.ledger.pause(number, reason)
        finally:
            self.ledger.commit()
