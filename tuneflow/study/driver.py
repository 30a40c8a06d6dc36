"""The loop of a study: ask scheduler and searcher, submit slices, record events."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tuneflow.analysis.speed_gain import note_gain
from tuneflow.errors import StudyError, exceptions_only, plural
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.execute.in_order import AnyOrder, FixedOrder
from tuneflow.history.trial import CUT, Slice, Trial
from tuneflow.probing.cache import Probes
from tuneflow.runtime.environment import USUAL
from tuneflow.schedule.impossible import ImpossibleDecision, impossible
from tuneflow.schedule.scheduler import Continue, Decision, Fork, Scheduler, Start, Stop
from tuneflow.search.searcher import Searcher
from tuneflow.seeds import lazy_stream
from tuneflow.space.parameters import Float
from tuneflow.space.search_space import Config
from tuneflow.study.absent_owners import waiting_lines
from tuneflow.study.budget import Budget
from tuneflow.study.ledger import Ledger
from tuneflow.study.new_trials import new_trial
from tuneflow.study.progress import Progress
from tuneflow.study.signals import Interrupts
from tuneflow.study.taken_measures import TakenMeasures
from tuneflow.train.job import Job, TrainState

FAILURES = 5  # failed trials in a row that end a run
LANES = 16  # trials of each structure, where there are several, for which the gain of lanes is measured


class SliceStarter(Protocol):
    """Start and continue the slices that were decided on: in an executor, or for whoever asks for trials."""

    def start(self, trial: Trial, until: int) -> None: ...
    def proceed(self, number: int, until: int) -> None: ...


@dataclass
class Driver:
    """The loop of a study, and the life of a trial in it.

    Args:
        trainer: trains; None where trials are asked for.
        job: returns a trial's job.
        searcher, scheduler: decide; they may be replaced between runs.
        ledger: records what happens.
        probes: the study's probes; None without a model to measure.
        progress: shows what happens.
        measures: those of the modules' structures; None where there is none to take.
        paired: True if trials share their seeds, so that a configuration is trained once.
        lag: number of slices under way in a fixed order of reports; None for reports as they come.
        call: called with every trial that reported.
        ended: called with every trial that ended.
    """

    trainer: Any
    job: Callable[[Trial], Job]
    searcher: Searcher
    scheduler: Scheduler
    ledger: Ledger
    probes: Probes | None
    progress: Progress
    measures: TakenMeasures | None
    paired: bool
    lag: int | None
    call: Callable[[Trial], None]
    ended: Callable[[Trial], None]

    def __post_init__(self) -> None:
        self._history, self._space = self.ledger.history, self.ledger.history.space
        parts = (self.ledger, self._submit, self.end)
        self._order = AnyOrder(*parts) if self.lag is None else FixedOrder(self.lag, *parts)
        self._failures = 0  # in a row
        self.exhausted = False  # there was no new trial to be had

    def run(self, executor: Executor, budget: Budget) -> str:
        """Train until the budget is spent, nothing is left to do, or the run is interrupted; return the reason.

        Raises:
            StudyError: five trials in a row failed.
        """
        self._failures, self.exhausted = 0, False
        trained = sum(t.epochs - (t.parent[1] if t.parent else 0) for t in self._history.trials)
        following = self.progress.following(self._history, budget)
        with self._order.exclusive(), Interrupts() as interrupts, np.errstate(**USUAL), following:
            why, reason = "", ""
            try:
                executor = self._order.begin(executor)
                while interrupts.wanted is None and not (why := budget.over(self._history, trained)):
                    self._decide_all(executor, budget.trials)
                    for number in self.ledger.commit():
                        executor.stop(number)
                    if not executor.busy:
                        if self._another_left():
                            continue
                        why = self._nothing_left(budget.trials)
                        break
                    self.progress.update()
                    if self.lag is None:
                        self.ledger.look_again()
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
        for line in waiting_lines(self.ledger.store):
            self.progress.waits(line)
        return why

    def _another_left(self) -> bool:
        """True if the trial of a process that died meanwhile goes on here, or its number is free."""
        freed = self.lag is None and self.ledger.look()
        self.exhausted = self.exhausted and not freed
        return freed

    def _nothing_left(self, limit: float) -> str:
        """Return the reason for ending a run with fewer trials than `limit`; empty with as many, or without a limit."""
        left = limit - len(self._history)
        if not math.isfinite(left) or left <= 0 or self._history.running:
            return ""
        if self.exhausted:
            return f"search space exhausted after {plural(len(self._history) - self._history.claimed, 'trial')}"
        return f"{self.scheduler!r} starts no more trials after {len(self._history)} and has none to continue"

    def _decide_all(self, executor: Executor, limit: float) -> None:
        """Take decisions until there is nothing to do before the next event."""
        while self._order.settled:
            self.ledger.sync()
            decision = self.decide(limit)
            if isinstance(decision, Stop):
                executor.stop(decision.trial)
                self.stop(decision)
                continue
            if not executor.free or not self.carry_out(decision, limit, self._order):
                return
            if not executor.free and not self._order.decides_when_full:
                return

    def decide(self, limit: float) -> Decision:
        """Return the scheduler's next decision, with `limit` trials in all.

        Raises:
            StudyError: it is no decision, or one that cannot be carried out; see `impossible`.
        """
        history = self._history
        history.number = len(history)
        history.remaining = 0 if self.exhausted else limit - len(history) + history.claimed
        rng: Any = lazy_stream(self._history.seed, "schedule", len(history), history.ended)
        with exceptions_only(repr(self.scheduler)):
            decision = self.scheduler.next(self._space, history, rng)
            wanted = self.scheduler.keep(history)
        self._check(decision)
        self.ledger.want(wanted)
        return decision

    def _check(self, decision: Decision) -> None:
        """Raise StudyError unless `decision` is one that can be carried out."""
        problem = impossible(decision, self._history)
        if problem:
            raise ImpossibleDecision(f"{self.scheduler!r} decided {decision!r}; {problem}.")

    def carry_out(self, decision: Decision, limit: float, order: SliceStarter) -> bool:
        """Start or continue the slice that was decided on; False when there is none."""
        if isinstance(decision, Continue):
            order.proceed(decision.trial, decision.until)
            return True
        if not isinstance(decision, Start | Fork):
            return False
        new = self._fork(decision, limit) if isinstance(decision, Fork) else self.new(limit)
        if new is None:
            again, self.exhausted = not self.exhausted, True
            return again
        reason = self.probes.screened(new.config) if self.probes else ""
        if reason:
            self.end(new.number, "SCREENED", reason)
        else:
            order.start(new, decision.until)
        return True

    def new(self, limit: float) -> Trial | None:
        """Return a new trial from the queue or the searcher, or None when there is none to be had."""
        number = self.ledger.claim(limit)
        if number is None:
            return None
        self._history.number = number
        queued, trial = self.ledger.store.next_queued(number), None
        try:
            trial = self._proposed(number) if queued is None else self._queued(number, queued)
        finally:
            if trial is None:
                self.ledger.release(number)
        return trial

    def _queued(self, number: int, config: Config) -> Trial:
        """Start a queued trial; it is linked to an earlier one of its configuration where its seed is another."""
        config = self.ledger.checked(config)
        repeats = self._history.first(config) if self.trainer is None or not self.paired else None
        return self.ledger.start(Trial(number, config, repeats=repeats))

    def _proposed(self, number: int) -> Trial | None:
        trial = new_trial(self.searcher, self.ledger, number, self.paired)
        self.progress.show_once(self.searcher.notice)
        if trial is not None and trial.repeats is not None and self.paired and not self.searcher.repeats:
            self.progress.repeats(number)
        return trial

    def _fork(self, decision: Fork, limit: float) -> Trial | None:
        config = self._space.cast(decision.config)
        number = self.ledger.claim(limit)
        if number is None:
            return None
        parent = (decision.trial, decision.epoch)
        return self.ledger.start(Trial(number, config, epochs=decision.epoch, parent=parent))

    def _submit(self, executor: Executor, trial: Trial, until: int, state: TrainState | None) -> None:
        at = 0 if state is None else state.epoch  # earlier than it stands where a later state is lost
        work = Slice(trial.number, at if self.lag is None else trial.epochs, min(until, self._history.epochs))
        executor.submit(work, self.trainer, self.job(trial), state)

    def stop(self, decision: Stop) -> None:
        """End the trial that the scheduler stops, unless another process was faster."""
        trial, ledger = self._history.trials[decision.trial], self.ledger
        running = trial.status == "RUNNING" and (ledger.owns(trial.number) or ledger.seize(trial.number))
        if running or (trial.status == "PAUSED" and ledger.take(trial.number, backed=self.trainer is not None)):
            self.end(trial.number, "STOPPED", decision.reason, CUT)

    # Events.

    def _handle(self, executor: Executor) -> int:
        """Wait for events and record them; return the number of epochs trained."""
        epochs = 0
        for event in executor.wait():
            if self._history.trials[event.trial].status != "RUNNING":
                continue
            if isinstance(event, Reported) and event.report.epoch <= self._history.trials[event.trial].epochs:
                self.ledger.again(event.trial, event.state)
            elif isinstance(event, Reported):
                epochs += 1
                self._report(event, executor)
            else:
                self._finish(event)
        return epochs

    def _report(self, event: Reported, executor: Executor) -> None:
        """Record a report, with the measures of the trial's structure; a measure that raises ends the trial."""
        trial, report = self._history.trials[event.trial], event.report
        if self.measures is not None:
            completed = self.measures.completed(event, self.trainer, self.job(trial), trial.reports)
            if isinstance(completed, Ended):
                executor.stop(event.trial)
                self._finish(completed)
                return
            report = completed
        self._history.objective.check(report.metrics)
        self.call(self.ledger.report(event.trial, report, event.state))

    def _finish(self, event: Ended) -> None:
        if event.status != "DONE" or self._history.trials[event.trial].epochs >= self._history.epochs:
            self.end(event.trial, event.status, event.reason, event.detail, event.seconds)
            if self._failures >= FAILURES:
                message = f"{FAILURES} trials in a row failed, the last with {event.reason}\n{event.detail}"
                raise StudyError(message.rstrip())
        else:
            self.ledger.pause(event.trial)

    def end(self, number: int, status: Any, reason: str = "", detail: str = "", seconds: float = 0.0) -> None:
        """End a trial, `seconds` after its last report; as DIVERGED where the epoch that counts has no finite score."""
        if status == "DONE" and (bad := self._not_finite(number)):
            status, reason = "DIVERGED", bad
        if status in ("DONE", "STOPPED") and (lacking := self._lacking(number)):
            reason = f"{reason}; {lacking}" if reason else lacking
        trial = self.ledger.end(number, status, reason, detail, seconds)
        self.progress.ended(trial)
        self.ended(trial)
        if status == "DONE":
            left = self.progress.total - self._history.ended
            if math.isfinite(left) and self._structures() <= max(1.0, left / LANES):
                gain = self.progress.suggest_lanes(self.trainer, self.job(trial), trial.seconds * left)
                note_gain(self.ledger.store, gain)
        self._failures = self._failures + 1 if status == "FAILED" else 0

    def _lacking(self, number: int) -> str:
        """Return why a trial with reports has no score; empty where it has one."""
        trial, objective = self._history.trials[number], self._history.objective
        if not trial.reports or trial.metrics:
            return ""
        return f"no score, as {objective.rare} was not reported by epoch {trial.epochs}"

    def _not_finite(self, number: int) -> str:
        """Return which goal is not finite in the epoch that counts for a trial; empty where none is."""
        selected = self._history.objective.pick(self._history.trials[number].reports)
        if selected is None:
            for report in self._history.trials[number].reports[-1:]:
                self._history.objective.check(report.metrics, last=True)
            return ""
        values = {metric: selected.metrics[metric] for metric, _ in self._history.objective.goals}
        bad = [
            f"{name} is {value} at epoch {selected.epoch}" for name, value in values.items() if not math.isfinite(value)
        ]
        return bad[0] if bad else ""

    def _structures(self) -> float:
        """Return about how many structures there are: only trials of one are trained as one program."""
        parameters = [coordinate.parameter for coordinate in self._space.coordinates]
        return math.prod(parameter.levels for parameter in parameters if not isinstance(parameter, Float))

    def _pause(self, reason: str) -> None:
        """Pause the trials that run when a run ends; the next run continues them."""
        try:
            for number in self.ledger.running():
                self.ledger.pause(number, reason)
        finally:
            self.ledger.commit()
