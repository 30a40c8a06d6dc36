"""Study: the one loop that knows space, searcher, scheduler, trainer, runtime and store, and none of their kinds."""

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from tuneflow.check.dry_run import DryRun
from tuneflow.errors import StudyError
from tuneflow.execute.choose import executor_for
from tuneflow.execute.executor import Executor
from tuneflow.execute.guard import guarded
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.history.history import History, Trials
from tuneflow.history.trial import Report, Trial
from tuneflow.model import Model
from tuneflow.probing.cache import Probes
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.full import Full
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.random import Random
from tuneflow.search.searcher import Searcher
from tuneflow.signature import hinting
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.folder import Folder
from tuneflow.study.arguments import (
    Callback,
    callbacks_of,
    check_kinds,
    check_precision_used,
    check_trainer,
    lag_of,
)
from tuneflow.study.budget import Budget
from tuneflow.study.confirm import Confirmed, Looks, choose, keep, kept, trained
from tuneflow.study.driver import Driver
from tuneflow.study.fingerprint import compare, facts_of
from tuneflow.study.goals import check_known, check_limits, numbers_told, objective_of
from tuneflow.study.ledger import Ledger
from tuneflow.study.progress import Progress
from tuneflow.study.result import Provenance, Result, Scores
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.replicated import Replicated
from tuneflow.validate import check_whole


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
        folder: where the study is kept: a path, or a `tn.Folder` to set what is kept there how long. A study that is
            there already goes on, and several processes may work on it at once. None keeps it in memory.
        seed: any whole number; with it everything random is settled.
        paired: trials share initialization seeds and data order, so that they differ by their configuration
            only; False adds the trial's number to the seed.
        lag: have `lag` trials under way, and decide as if each of their epochs took equally long. Then the same trials
            come for any number of workers up to `lag`, however fast, and after any kill, also where searcher or
            scheduler look at scores; determinism.md in the docs says at what price. None decides on all that is known.
        replicas: train each configuration under so many seeds; its score is their mean.
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
        trainer: TrainerProtocol | None = None,
        searcher: Searcher | None = None,
        scheduler: Scheduler | None = None,
        maximize: str | Sequence[str] | None = None,
        minimize: str | Sequence[str] | None = None,
        at: Literal["best", "last"] | None = None,
        limits: Mapping[str, float | tuple[float | None, float | None]] | None = None,
        runtime: Runtime | None = None,
        folder: str | Path | Folder | None = None,
        seed: int = 0,
        paired: bool = True,
        lag: int | None = None,
        replicas: int = 1,
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
        self.replicas = replicas = check_whole("Study: replicas", replicas)
        self.lag = lag_of(lag, (self.runtime.workers or 1) * self.runtime.seats, trainer)
        self.trainer: Any = trainer if replicas == 1 or trainer is None else Replicated(trainer, replicas)
        self.objective = objective_of(maximize, minimize, at, limits, self.trainer)
        self._progress = Progress(progress, self.objective, self.runtime)
        self.searcher.check(space)
        folder = Folder.of(folder)
        self.folder = None if folder.path is None else Path(folder.path)
        new = self.folder is None or not os.path.exists(self.folder / "study.sqlite")
        self._dry_run = DryRun(space, model, self.runtime, new)
        if trainer is not None:
            with guarded():
                trainer.check(self._dry_run)
        store, states = folder.open()
        facts = facts_of(self)
        before = store.describe(facts)
        if before is not facts:
            compare(before, facts, str(self.folder))
        self.history = History(space, self.objective, seed, 1 if trainer is None else trainer.epochs)
        self._probes = None
        if trainer is not None and trainer.inspectable and model is not None:
            inspected: Any = trainer
            say = self._progress.say
            self._probes = self.history.prober = Probes(store, space, model, inspected, self.runtime, seed, say)
        self.scheduler.check(self.history)
        self._ledger = Ledger(store, states, self.history, folder.keep, folder.checkpoint)
        self._ledger.sync()
        self._ledger.want(self.scheduler.keep(self.history))
        self._ledger.recover()
        self._confirmed = kept(store, self.history)

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
        top, seeds = check_whole("confirm: top", top), check_whole("confirm: seeds", seeds)
        self._ledger.sync()
        executor = partial(self._executor, lambda: top * seeds)
        looks = Looks(self._ledger.store, self.objective, executor, self.trainer.single, self._fresh_job)
        ranked = self.searcher.ranked(self.space, self.history)
        self._confirmed = chosen = choose(looks, self.history, ranked, top, seeds, self._progress.say)
        trial = self.history.trials[chosen.number]
        spoken = self.objective.pick(trial.reports)
        state = None
        if spoken is not None and spoken.epoch not in self._ledger.states.epochs(trial.number):
            ((_, last, _),) = trained(self._executor, self.trainer, [(self._driver.job(trial), spoken.epoch)])
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
        trial = self._driver.new(math.inf)
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
            self._driver.end(number, "FAILED", reason or "told to have failed")
        else:
            epoch = self.history.trials[number].epochs + 1
            report = Report(epoch, numbers_told(metrics, self.objective))
            self._ledger.report(number, report, None)
            if not self._driver.bad(number, report):
                self._driver.end(number, "DONE") if done else self._call(self.history.trials[number])
        self._ledger.commit()
        return self.history.trials[number]

    # The loop.

    def run(
        self,
        trials: int | None = None,
        epochs: int | None = None,
        seconds: float | None = None,
        target: float | None = None,
        plateau: int | None = None,
    ) -> None:
        """Train until there are `trials` trials in all; run again, it goes on or has nothing to do.

        The first Ctrl-C or SIGTERM finishes the epoch and leaves; a second Ctrl-C leaves now. Either way the study goes
        on where it was when it is run again.

        Args:
            trials: the total number of trials, those of earlier runs included.
            epochs: stop when this many epochs were trained in all; unfinished trials are paused.
            seconds: stop after this long, at the end of an epoch; unfinished trials are paused.
            target: stop when a finished trial has a score as good as this.
            plateau: stop when so many trials in a row have ended without a better score.

        Raises:
            ValueError: no limit is given and the searcher never ends.
            StudyError: five trials in a row failed.
        """
        if self.trainer is None:
            raise StudyError("run: this study has no trainer; use ask and tell, or give it one.")
        budget = Budget.of(self.objective, trials, epochs, seconds, target, plateau)
        if budget == Budget() and not self.searcher.ends:
            raise ValueError(
                f"run needs trials=, epochs=, seconds=, target= or plateau=, since {self.searcher!r} never ends."
            )
        # Before all else: a worker whose script has no main guard ends here.
        executor = self._executor(lambda: budget.trials - len(self.history))
        self._progress.begin(budget.trials, self.progress)
        trainer = self.trainer.single
        if not len(self.history):
            self._rehearse(trainer)
        if trainer.inspectable and self.runtime.advises and not len(self.history):
            example = self.space.resolve(next(iter(self.space.examples())))
            self._progress.suggest_precision(trainer, Job(self.model, example, self.runtime, self.seed))
        self._ledger.recover()
        if self.progress and self.folder is not None and len(self.history) and len(self.history) < budget.trials:
            paused = f" and {len(self.history.paused)} paused ones" if len(self.history.paused) else ""
            line = f"{self.folder}: goes on after {self.history.ended} ended trials{paused}"
            print(line, file=sys.stderr, flush=True)
        self._progress.over(self._driver.run(executor, budget))

    def _executor(self, left: Callable[[], float] = lambda: 0) -> Executor:
        """A new one of the runtime's; `left` says how many trials are to come."""
        executor = executor_for(self.runtime)
        if isinstance(executor, EngineCache.Kept):
            executor.notes = EngineCache(self._ledger.store, left, self._progress.show)
        return executor

    @property
    def _driver(self) -> Driver:
        """The loop over the parts as they are now: a searcher may be given to a study that is there."""
        return Driver(
            space=self.space,
            model=self.model,
            trainer=self.trainer,
            runtime=self.runtime,
            searcher=self.searcher,
            scheduler=self.scheduler,
            history=self.history,
            ledger=self._ledger,
            probes=self._probes,
            progress=self._progress,
            seed=self.seed,
            paired=self.paired,
            lag=self.lag,
            call=self._call,
        )

    def _rehearse(self, trainer: TrainerProtocol) -> None:
        """Have the trainer try one configuration of every branch of the space, before trial 0."""
        for config in self.space.examples():
            try:
                with guarded():
                    job = Job(self.model, self.space.resolve(config), self.runtime, self.seed)
                    known = trainer.rehearse(job, self._dry_run) or ()
            except Exception as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"configuration {config}: the loop fails: {type(error).__name__}: {error}") from error
            for metric, up in self.objective.goals if known else ():
                check_known(metric, up, known)
            if known:
                check_limits(self.objective, known)

    def _fresh_job(self, number: int, seed: int) -> Job:
        """A trial's job under a seed that no trial was trained under."""
        return replace(self._driver.job(self.history.trials[number]), replica=self.replicas + seed)

    def _call(self, trial: Trial) -> None:
        for callback in self.callbacks:
            callback(self, trial)

    def _result(self, trial: Trial, confirmed: Confirmed | None = None, rivals: Any = None) -> Result:
        spoken = self.objective.pick(trial.reports)
        metrics = tuple(self.objective.metrics)
        epoch = spoken.epoch if spoken else 0
        origin = Provenance(self._driver.job(trial), self.trainer, self._ledger.states, metrics, epoch, rivals)
        known = {f.name: getattr(trial, f.name) for f in fields(trial)}
        return Result(**known, origin=origin, confirmed=confirmed)
