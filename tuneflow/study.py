"""Study: the one loop that knows space, searcher, scheduler, trainer, runtime and store, and none of their kinds."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from tuneflow.arguments import (
    Callback,
    callbacks_of,
    check_kinds,
    check_precision_used,
    check_trainer,
    lag_of,
    path_of,
    seconds_of,
)
from tuneflow.confirm import Confirmed, Looks, choose, keep, kept, trained
from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.execute.guard import guarded
from tuneflow.execute.notes import Notes
from tuneflow.fingerprint import compare, facts_of
from tuneflow.goals import check_known, check_limits, numbers_told, objective_of
from tuneflow.interrupt import Interrupts
from tuneflow.ledger import Ledger
from tuneflow.model import Model
from tuneflow.order import Ordered
from tuneflow.probes import Probes
from tuneflow.progress import Progress
from tuneflow.result import Origin, Result, Scores
from tuneflow.runtime import Runtime
from tuneflow.schedule.full import Full
from tuneflow.schedule.scheduler import Continue, Decision, Fork, Scheduler, Start, Stop
from tuneflow.search.random import Random
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import lazy_stream, stream
from tuneflow.signature import hinting
from tuneflow.space import Config, SearchSpace
from tuneflow.store.folder import opened
from tuneflow.store.sqlite import Durable, check_durable
from tuneflow.train.check import check_space
from tuneflow.train.hidden import check_loop
from tuneflow.train.job import Job
from tuneflow.train.loop import Loop
from tuneflow.train.replicas import Replicated
from tuneflow.train.trainer import Trainer, whole
from tuneflow.trial import History, Report, Slice, Trial, Trials

FAILURES = 5  # failed trials in a row that end a run


class Study:
    """Tunes a model: proposes trials, trains them, keeps what happened, hands over the best model.

    Args:
        space: what is tuned; sections `model`, `optimizer`, `loss`, `augment`, `trainer`, or flat for a loop or
            function of one's own.
        model: how the module is made.
        trainer: how it is trained: a Trainer, or a function decorated with `tn.loop`. Without one, trials are had from
            `ask` and answered with `tell`.
        searcher: where new trials start; Random() by default.
        scheduler: who trains next and how far; Full() by default.
        maximize, minimize: the metric to tune for, or lists of them for several objectives; `minimize="loss"` by
            default.
        limits: what trials have to keep to, by metric: the most that it may be, or (least, most) with None for an open
            end. A trial beyond a limit is worse than any within.
        at: "best": a trial counts with its best epoch, score and weights alike; "last": with its last.
        runtime: the device, and how many worker processes; Runtime() by default.
        folder: where the study is kept; a study that is there already goes on, and several processes may work on it
            at once. None keeps it in memory.
        seed: any whole number; with it everything random is settled.
        paired: trials share initialisation seeds and data order, so that they differ by their configuration
            only; False adds the trial's number to the seed.
        lag: have `lag` trials under way, and decide as if each of their epochs took equally long. Then the same trials
            come for any number of workers up to `lag`, however fast, and after any kill, also where searcher or
            scheduler look at scores; docs/determinism.md says at what price. None decides on all that is known.
        replicas: train each configuration under so many seeds; its score is their mean.
        keep: of how many of the best trials the trained state is kept.
        checkpoint: seconds between writes of unfinished trials' states to the folder; what was trained since
            is trained again, to the same digits, when the process dies.
        memory: bytes of trained states to hold in memory; beyond it they are in files of the folder, or of a temporary
            one where there is none.
        durable: what survives a crash of the machine, not only of the process: "end" every trial that ended, "always"
            every epoch's report, "never" nothing for sure.
        callbacks: each called as `callback(study, trial)` after every report and at every trial's end.
        progress: print a line for each finished trial.

    Raises:
        ValueError, TypeError: an argument, a section or a name does not fit; before any training.
        FingerprintError: the folder holds a study that was made with something else.
        StoreError: the folder cannot be used.
    """

    @hinting
    def __init__(
        self,
        *,
        space: SearchSpace,
        model: Model | None = None,
        trainer: Any = None,
        searcher: Searcher | None = None,
        scheduler: Scheduler | None = None,
        maximize: str | Sequence[str] | None = None,
        minimize: str | Sequence[str] | None = None,
        at: Literal["best", "last"] | None = None,
        limits: Mapping[str, float | tuple[float | None, float | None]] | None = None,
        runtime: Runtime | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        paired: bool = True,
        lag: int | None = None,
        replicas: int = 1,
        keep: int = 1,
        checkpoint: float = 10.0,
        memory: int = 2**30,
        durable: Durable = "end",
        callbacks: Iterable[Callback] = (),
        progress: bool = True,
    ) -> None:
        self.model, self.space = model, space
        self.searcher, self.scheduler = searcher or Random(), scheduler or Full()
        self.runtime = runtime or Runtime()
        self.seed, self.paired, self.progress = seed, paired, progress
        check_kinds(self)
        self.callbacks = callbacks_of(callbacks)
        check_trainer(trainer)
        check_precision_used(trainer, self.runtime)
        check_durable(durable)
        checkpoint = seconds_of("Study: checkpoint", checkpoint)
        self.replicas = replicas = whole("Study", "replicas", replicas)
        self.lag = lag_of(lag, (self.runtime.workers or 1) * self.runtime.seats, trainer)
        self.trainer: Any = trainer if replicas == 1 or trainer is None else Replicated(trainer, replicas)
        self.objective = objective_of(maximize, minimize, at, limits, self.trainer)
        self._progress = Progress(progress, self.objective, self.runtime)
        self.searcher.check(space)
        self.folder = None if folder is None else path_of(folder)
        if isinstance(trainer, Trainer):
            if model is None:
                raise TypeError("Study: a Trainer needs model=, such as tn.Model(builder).")
            new = self.folder is None or not os.path.exists(self.folder / "study.sqlite")
            with guarded():
                check_space(space, model, trainer, self.runtime, dry=new)
        store, states = opened(self.folder, durable, whole("Study", "memory", memory))
        facts = facts_of(self)
        before = store.describe(facts)
        if before is not facts:
            compare(before, facts, str(self.folder))
        self.history = History(space, self.objective, seed, getattr(trainer, "epochs", 1))
        self._probes = None
        if isinstance(trainer, Trainer) and model is not None:
            self._probes = self.history.prober = Probes(
                store, space, model, trainer, self.runtime, seed, self._progress.say
            )
        self.scheduler.check(self.history)
        self._ledger = Ledger(store, states, self.history, whole("Study", "keep", keep), checkpoint)
        self._ledger.sync()
        self._ledger.want(self.scheduler.keep(self.history))
        self._ledger.recover()
        self._confirmed = kept(store, self.history)
        self._failures = 0
        self._no_more = False  # it was told that there is no new trial to be had

    # Results.

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def best(self) -> Result:
        """The finished trial with the best score within the limits; or what `confirm` chose, until more trials end.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there are several objectives; `front` is what they have.
        """
        best, confirmed = self.history.best, self._confirmed
        if confirmed is not None and confirmed.ended == self.history.ended:
            return self._result(self.history.trials[confirmed.number], confirmed=confirmed)
        known = np.isfinite(self.history.costs)
        return self._result(best, rivals=(self.history.costs[known], self.history.errors[known]))

    @property
    def front(self) -> list[Result]:
        """The finished trials that no other one beats in every objective, by number."""
        return [self._result(trial) for trial in self.history.front]

    def result(self, number: int) -> Result:
        """Trial `number` with its model; only the best `keep` trials still have theirs."""
        if not 0 <= number < len(self.history):
            raise StudyError(f"there is no trial {number}; this study has {len(self.history)}.")
        return self._result(self.history.trials[number])

    def test(self, data: Any) -> Scores:
        """Metrics of the best model on data that no trial has seen, each with its 95 % interval; see Result.test."""
        return self.best.test(data)

    @hinting
    def confirm(self, top: int = 5, seeds: int = 3) -> Result:
        """Choose among the best trials by fresh seeds; `best` is the one chosen from then on, until more trials end.

        The best of many noisy scores is in part the luckiest. So the configurations of the `top` trials, as the
        searcher ranks them, are trained anew under `seeds` seeds, each to the epoch that spoke for its trial. The one
        with the best mean is trained under as many others, and their mean is its score: nothing was chosen by it. Its
        model stays that of the trial itself. Every training is kept with the study and made only once. What fresh seeds
        do not take off is the luck of the validation examples; `test` tells of that.

        Args:
            top: how many trials.
            seeds: how many trainings of each, and of the one chosen again.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there is no trainer, there are several objectives, or no training came to its end.
        """
        if self.trainer is None:
            raise StudyError("confirm: this study has no trainer to train under fresh seeds; use ask and tell.")
        if self.objective.several:
            raise StudyError("confirm compares trials by one objective, and this study has several; see front.")
        top, seeds = whole("confirm", "top", top), whole("confirm", "seeds", seeds)
        self._ledger.sync()
        single = getattr(self.trainer, "trainer", self.trainer)  # inside Replicated
        looks = Looks(self._ledger.store, self.objective, self._executor, single, self._fresh_job)
        ranked = self.searcher.ranked(self.space, self.history)
        self._confirmed = chosen = choose(looks, self.history, ranked, top, seeds, self._progress.say)
        trial = self.history.trials[chosen.number]
        spoken = self.objective.pick(trial.reports)
        state = None
        if spoken is not None and spoken.epoch not in self._ledger.states.epochs(trial.number):
            ((_, last, _),) = trained(self._executor, self.trainer, [(self._job(trial), spoken.epoch)])
            state = last.state if last is not None else None
        self._ledger.choose(chosen.number, state)
        keep(self._ledger.store, chosen)
        self._ledger.commit()
        return self.best

    def close(self) -> None:
        """Give back the folder; also done at the end of a `with` block."""
        self._ledger.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ended = len(self.history.finished)
        return f"Study({self.folder or 'in memory'}: {ended} of {len(self.history)} trials ended, {self.space!r})"

    # Trials by hand.

    def enqueue(self, config: Config) -> None:
        """Have `config` tried before the searcher is asked again.

        Raises:
            ValueError: it is not in the space; the message names the parameter.
        """
        self._ledger.store.enqueue(self.space.cast(config))

    def ask(self) -> Trial | None:
        """A new trial to be trained by somebody else; None when the searcher has nothing left."""
        if self.lag is not None:
            raise StudyError("ask: with lag= the study trains its trials itself, by run; leave out lag to ask.")
        self._ledger.sync()
        trial = self._new(math.inf)
        self._ledger.commit()
        return trial

    def tell(
        self, trial: Trial | int, metrics: Mapping[str, float] | float | None, *, done: bool = True, reason: str = ""
    ) -> Trial:
        """What came of a trial that `ask` gave: its metrics, by name, or one number for a single objective.

        Args:
            metrics: None says that the trial failed, for `reason`.
            done: False reports one more epoch and leaves the trial running.

        Returns:
            The trial as it stands.

        Raises:
            StudyError: there is no such trial, or it has ended.
            TypeError: a metric is not a number.
        """
        number = trial if isinstance(trial, int) else trial.number
        if not 0 <= number < len(self.history) or self.history.trials[number].status != "RUNNING":
            known = 0 <= number < len(self.history)
            state = f"is {self.history.trials[number].status}" if known else "does not exist"
            raise StudyError(f"tell: trial {number} {state}; only a running trial can be told of.")
        if metrics is None:
            self._end(number, "FAILED", reason or "told to have failed")
        else:
            epoch = self.history.trials[number].epochs + 1
            report = Report(epoch, numbers_told(metrics, self.objective))
            self._ledger.report(number, report, None)
            if not self._bad(number, report):
                self._end(number, "DONE") if done else self._call(self.history.trials[number])
        self._ledger.commit()
        return self.history.trials[number]

    # The loop.

    def run(self, trials: int | None = None, epochs: int | None = None, seconds: float | None = None) -> None:
        """Train until there are `trials` trials in all; run again, it goes on or has nothing to do.

        The first Ctrl-C or SIGTERM finishes the epoch and leaves; a second Ctrl-C leaves now. Either way the study goes
        on where it was when it is run again.

        Args:
            trials: the total number of trials, those of earlier runs included.
            epochs: stop when this many epochs were trained in all; unfinished trials are paused.
            seconds: stop after this long, at the end of an epoch; unfinished trials are paused.

        Raises:
            ValueError: no limit is given and the searcher never ends.
            StudyError: five trials in a row failed.
        """
        most, left, deadline = self._limits(trials, epochs, seconds)
        # Before all else: a worker whose script has no main guard ends here.
        executor = self._executor(lambda: most - len(self.history))
        self._failures, self._no_more = 0, False
        self._progress.begin(most, self.progress)
        loop = getattr(self.trainer, "trainer", self.trainer)  # inside Replicated
        if isinstance(loop, Loop) and not len(self.history):
            self._check_loop(loop)
        if isinstance(loop, Trainer) and self.runtime.advises and not len(self.history):
            example = self.space.resolve(next(iter(self.space.examples())))
            self._progress.suggest_precision(loop, Job(self.model, example, self.runtime, self.seed))
        self._ledger.recover()
        if self.progress and self.folder is not None and len(self.history) and len(self.history) < most:
            print(f"{self.folder}: goes on after {self.history.ended} ended trials", file=sys.stderr, flush=True)
        with Interrupts() as interrupts, nullcontext() if self.lag is None else self._ledger.alone():
            reason = ""
            try:
                if self.lag is not None:
                    executor = self._ordered(executor, self.lag)
                while left > 0 and time.monotonic() < deadline and interrupts.wanted is None:
                    self._decide_all(executor, most)
                    for number in self._ledger.commit():
                        executor.stop(number)
                    if not executor.busy:
                        break
                    left -= self._handle(executor)
            except KeyboardInterrupt:
                reason = "interrupted"
                raise
            finally:
                executor.close()
                self._pause("interrupted" if interrupts.wanted is not None else reason)
                if interrupts.wanted is not None and self.progress:
                    print("interrupted; run it again and it goes on from here", file=sys.stderr, flush=True)

    def _executor(self, left: Callable[[], float] = lambda: 0) -> Executor:
        """A new one of the runtime's; `left` says how many trials are to come."""
        executor = self.runtime.executor()
        if isinstance(executor, Notes.Kept):
            executor.notes = Notes(self._ledger.store, left, self._progress.show)
        return executor

    def _check_loop(self, loop: Loop) -> None:
        """Train two epochs of every branch of the space, at once and in pieces, before trial 0."""
        for config in self.space.examples():
            try:
                with guarded():
                    known = check_loop(loop, Job(None, self.space.resolve(config), self.runtime, self.seed))
            except Exception as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"configuration {config}: the loop fails: {type(error).__name__}: {error}") from error
            for metric, up in self.objective.goals if known else ():
                check_known(metric, up, known)
            if known:
                check_limits(self.objective, known)

    def _limits(self, trials: int | None, epochs: int | None, seconds: float | None) -> tuple[float, float, float]:
        if self.trainer is None:
            raise StudyError("run: this study has no trainer; use ask and tell, or give it one.")
        for name, value in (("trials", trials), ("epochs", epochs)):
            if value is not None:
                whole("run", name, value)
        if trials is None and epochs is None and seconds is None and not self.searcher.ends:
            raise ValueError(f"run needs trials=, epochs= or seconds=, since {self.searcher!r} never ends.")
        left = math.inf if epochs is None else epochs - sum(trial.epochs for trial in self.history.trials)
        deadline = math.inf if seconds is None else time.monotonic() + seconds_of("run: seconds", seconds)
        return (math.inf if trials is None else trials), left, deadline

    def _decide_all(self, executor: Executor, most: float) -> None:
        """Carry out decisions until there is nothing to do before the next event."""
        while not (isinstance(executor, Ordered) and executor.behind):
            self._ledger.sync()
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
        self._ledger.want(self.scheduler.keep(history))
        return decision

    def _submit_for(self, decision: Decision, executor: Executor, most: float) -> bool:
        """Give the executor what was decided on; False when there is nothing to give."""
        if isinstance(decision, Continue) and self.lag is not None:
            return self._go_on(self.history.trials[decision.trial], decision.until, executor)
        if isinstance(decision, Continue):
            trial = self._ledger.take(decision.trial)
            if trial is not None and trial.epochs < self.history.epochs:
                self._submit(trial, decision.until, executor)
            elif trial is not None:  # it was interrupted between its last epoch and its end
                self._end(trial.number, "DONE")
            return True
        if not isinstance(decision, Start | Fork):
            return False
        new = self._fork(decision, most) if isinstance(decision, Fork) else self._new(most)
        if new is None:
            again, self._no_more = not self._no_more, True
            return again
        reason = self._probes.screened(new.config) if self._probes else ""
        if reason:
            self._end(new.number, "SCREENED", reason)
        else:
            self._submit(new, decision.until, executor)
        return True

    def _new(self, most: float) -> Trial | None:
        """A trial from the queue or the searcher, entered under a number of its own."""
        number = self._ledger.claim(most)
        if number is None:
            return None
        self.history.number = number
        config = self._ledger.store.next_queued(number)
        try:
            checked = self._proposed(number) if config is None else self.space.cast(config)
        except BaseException:
            self._ledger.release(number)
            raise
        if checked is None:
            self._ledger.release(number)
            return None
        trial = Trial(number, checked)
        self._ledger.start(trial)
        return trial

    def _proposed(self, number: int) -> Config | None:
        return proposed(self.searcher, self.space, self.history, stream(self.seed, "search", number))

    def _fork(self, decision: Fork, most: float) -> Trial | None:
        config = self.space.cast(decision.config)
        number = self._ledger.claim(most)
        if number is None:
            return None
        trial = Trial(number, config, epochs=decision.epoch, parent=(decision.trial, decision.epoch))
        self._ledger.start(trial)
        return trial

    def _submit(self, trial: Trial, until: int, executor: Executor) -> None:
        work = Slice(trial.number, trial.epochs, min(until, self.history.epochs))
        state = self._ledger.state if self.lag is None else self._ledger.last
        executor.submit(work, self.trainer, self._job(trial), state(trial.number))

    def _stop(self, decision: Stop, executor: Executor) -> None:
        trial = self.history.trials[decision.trial]
        executor.stop(trial.number)
        if trial.status == "RUNNING" or self._ledger.take(trial.number) is not None:
            self._end(trial.number, "STOPPED", decision.reason)

    def _job(self, trial: Trial) -> Job:
        config = self.space.resolve(trial.config)
        return Job(self.model, config, self.runtime, self.seed, trial=None if self.paired else trial.number)

    def _fresh_job(self, number: int, seed: int) -> Job:
        """A trial's job under a seed that no trial was trained under."""
        return replace(self._job(self.history.trials[number]), replica=self.replicas + seed)

    # Under lag=.

    def _ordered(self, executor: Executor, lag: int) -> Ordered:
        """`executor` with events in order, and with the slices that were under way when the last run ended."""
        self._ledger.sync()
        for trial in list(self.history.paused):
            if trial.epochs >= self.history.epochs:  # it was interrupted between its last epoch and its end
                self._ledger.retake(trial.number)
                self._end(trial.number, "DONE")
        ordered = Ordered(executor, lag, self._ledger.note)
        under_way = [(self.history.trials[n], until, self._ledger.last(n)) for n, until in self._ledger.turns()]
        for trial, _, _ in under_way:
            self._ledger.retake(trial.number)
        for trial, until, state in under_way:  # after all that could fail, so that they are written down together
            ordered.submit(Slice(trial.number, trial.epochs, until), self.trainer, self._job(trial), state)
        return ordered

    def _go_on(self, trial: Trial, until: int, executor: Executor) -> bool:
        """Train a paused trial on: submitted before it is taken, so that its turn is written down with the taking."""
        if trial.status == "PAUSED":
            self._submit(trial, until, executor)
            self._ledger.retake(trial.number)
        return True

    # Events.

    def _handle(self, executor: Executor) -> int:
        """Wait for events and write them down; how many epochs were trained."""
        epochs = 0
        for event in executor.wait():
            if self.history.trials[event.trial].status != "RUNNING":
                continue
            if isinstance(event, Reported) and event.report.epoch <= self.history.trials[event.trial].epochs:
                self._ledger.again(event.trial, event.state)
            elif isinstance(event, Reported):
                epochs += 1
                trial = self._ledger.report(event.trial, event.report, event.state)
                if self._bad(event.trial, event.report):
                    executor.stop(event.trial)
                elif self.callbacks:
                    self._call(trial)
            else:
                self._finish(event)
        return epochs

    def _finish(self, event: Ended) -> None:
        if event.status != "DONE" or self.history.trials[event.trial].epochs >= self.history.epochs:
            self._end(event.trial, event.status, event.reason, event.detail, event.seconds)
            if self._failures >= FAILURES:
                words = f"{FAILURES} trials in a row failed, the last with {event.reason}\n{event.detail}"
                raise StudyError(words.rstrip())
        else:
            self._ledger.pause(event.trial)

    def _bad(self, number: int, report: Report) -> bool:
        """End a trial as DIVERGED when an objective is not finite."""
        for metric, _ in self.objective.goals:
            if not math.isfinite(report.metrics[metric]):
                self._end(number, "DIVERGED", f"{metric} is {report.metrics[metric]} at epoch {report.epoch}")
                return True
        return False

    def _end(self, number: int, status: Any, reason: str = "", detail: str = "", seconds: float = 0.0) -> None:
        trial = self._ledger.end(number, status, reason, detail, seconds)
        self._progress.ended(trial)
        self._call(trial)
        if status == "DONE":
            left = trial.seconds * (self._progress.total - self.history.ended)
            self._progress.suggest_lanes(self.trainer, self._job(trial), left)
        self._failures = self._failures + 1 if status == "FAILED" else 0

    def _call(self, trial: Trial) -> None:
        for callback in self.callbacks:
            callback(self, trial)

    def _pause(self, reason: str) -> None:
        """What was running here when a run ended goes on in the next."""
        try:
            for number in self._ledger.running():
                self._ledger.pause(number, reason)
        finally:
            self._ledger.commit()

    def _result(self, trial: Trial, confirmed: Confirmed | None = None, rivals: Any = None) -> Result:
        spoken = self.objective.pick(trial.reports)
        metrics = tuple(self.objective.metrics)
        epoch = spoken.epoch if spoken else 0
        origin = Origin(self._job(trial), self.trainer, self._ledger.states, metrics, epoch, rivals)
        known = {f.name: getattr(trial, f.name) for f in fields(trial)}
        return Result(**known, origin=origin, confirmed=confirmed)
