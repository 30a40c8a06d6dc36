"""Study: puts space, searcher, scheduler, trainer, runtime and store together, whatever their kinds."""

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, overload

from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.finding import Advice
from tuneflow.analysis.front_remarks import unbeaten
from tuneflow.analysis.importance import Importance, importance_of
from tuneflow.analysis.record import IN_MEMORY, Recorded, StudyRecord
from tuneflow.analysis.speed_gain import gains_of, note_gain
from tuneflow.analysis.study_fragment import study_fragment
from tuneflow.analysis.table import Table
from tuneflow.analysis.trial_table import curve_table, trial_table
from tuneflow.check.dry_run import StudyDryRun
from tuneflow.errors import StoreError, StudyError, printable
from tuneflow.execute.choose import study_executor
from tuneflow.execute.executor import Executor
from tuneflow.execute.head_start import HeadStart, trains_alike
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.history.history import History, Trials
from tuneflow.history.same_configuration import scores_of
from tuneflow.history.trial import Trial
from tuneflow.model import Model
from tuneflow.pages.write_report import write_report
from tuneflow.probing.cache import Probes, probes_of
from tuneflow.runtime.runtime import Runtime
from tuneflow.schedule.full import Full
from tuneflow.schedule.scheduler import Scheduler
from tuneflow.search.random import Random
from tuneflow.search.searcher import Searcher
from tuneflow.signature import hinting, hinting_at
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.folder import Folder
from tuneflow.study import arguments
from tuneflow.study.adjusted import neighbor, next_settings
from tuneflow.study.ask_and_tell import AskAndTell, Told, check_words, told
from tuneflow.study.budget import Budget
from tuneflow.study.callbacks import Callback, Listeners, callbacks_of
from tuneflow.study.confirm import Looks, choose, last_choice, store_choice, trained
from tuneflow.study.confirmed_front import check_front, confirm_front, last_front, store_front
from tuneflow.study.driver import Driver
from tuneflow.study.extension import Extended, Extending, Extension, check_epochs, left_lines, lengths_of
from tuneflow.study.final_model import FinalModels
from tuneflow.study.front import Front
from tuneflow.study.growth import FACTS, Growing
from tuneflow.study.kept_tests import KeptTests, kept_tests
from tuneflow.study.learning_curve import LearningCurve, curve_of
from tuneflow.study.ledger import Ledger
from tuneflow.study.new_trials import first_config
from tuneflow.study.one_run import one_at_a_time
from tuneflow.study.preflight import Preflight
from tuneflow.study.progress import Progress
from tuneflow.study.replay.replay_study import Replay, check_share
from tuneflow.study.replay.replayed import Replayed
from tuneflow.study.replay.script_hook import folder_to_open, hand_over
from tuneflow.study.result import Provenance, Result
from tuneflow.study.retention import with_kept_model
from tuneflow.study.short_interrupts import short_interrupts
from tuneflow.study.taken_measures import measures_of
from tuneflow.study.within import Within
from tuneflow.train.job import Job, TrainState
from tuneflow.train.module_metrics import of_module
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.repeated import repeated
from tuneflow.validate import check_flag, check_whole, path_of

TOP = 5  # trials that confirm chooses among by default


class Study:
    """Tunes a model: proposes trials, trains them, records their results, and keeps the best trained model.

    Args:
        space: the search space; sections `model`, `normalize`, `init`, `optimizer`, `loss`, `augment`, `trainer`, or
            flat for your own loop or function. It may grow when the study is made again.
        model: the model's builder, as a tn.Model.
        trainer: trains it: a tn.Trainer, or a function decorated with `tn.loop`. Without one, take trials from `ask`
            and report their metrics to `tell`.
        searcher: proposes configurations; Random() by default.
        scheduler: decides which trial trains next and how far; Full() by default.
        maximize: the metric to tune for, or a list of metrics for several objectives.
        minimize: the same for metrics of which less is better; "loss" by default.
        at: the epoch that counts for a trial's score and model: "best", or "last". By default "best" with one
            objective, "last" with several.
        limits: bounds that trials have to keep, by metric: an upper bound where less is better, (lower, upper) with
            None for an open end, or `tn.within(margin, of=result)`. A trial beyond a limit is worse than any within.
        runtime: the device, and the number of worker processes; Runtime() by default.
        folder: where the study is kept: a path, or a `tn.Folder` to set what is kept there how long. A study that is
            there already goes on, and several processes may work on it at once. None keeps it in memory.
        seed: any int; the only source of randomness.
        paired: trials share initialization seeds and data order, so that they differ by their configuration
            only, and one without a continuous parameter comes again only when all were tried. False adds the trial's
            number to the seed, and any configuration may come again.
        epochs: the full length of trials that `ask` gives, by which schedulers divide it; None for an open end. A
            trainer has its own.
        lag: keep `lag` trials under way, and decide as if each of their epochs took equally long. Then the same trials
            come for any number of workers up to `lag`, however fast, and after any kill, also where searcher or
            scheduler look at scores; determinism.md in the docs gives the price. None decides on everything known.
        replicas: number of seeds to train each configuration under, on each fold where the trainer has folds; its score
            is their mean.
        callbacks: functions, called as `callback(study, trial)` after every report and at every trial's end; or objects
            with any of `on_study_start(study)`, `on_report(study, trial)`, `on_trial_end(study, trial)` and
            `on_study_end(study)`. A study starts and ends with each run, or with the first `ask` and with `close`.
        progress: print a line for each finished trial.

    Attributes:
        history: every trial, as searchers and schedulers see it.
        objective: the metrics to tune for, their directions and limits.

    Raises:
        ValueError, TypeError: an argument, a section or a name does not fit; before any training.
        FingerprintError: the folder holds a study that was made with other settings.
        StoreError: the folder cannot be used.
    """

    @hinting_at(arguments.ELSEWHERE)
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
        limits: Mapping[str, float | tuple[float | None, float | None] | Within] | None = None,
        runtime: Runtime | None = None,
        folder: str | Path | Folder | None = None,
        seed: int = 0,
        paired: bool = True,
        epochs: int | None = None,
        lag: int | None = None,
        replicas: int = 1,
        callbacks: Iterable[Callback] = (),
        progress: bool = True,
    ) -> None:
        searcher = Random() if searcher is None else searcher
        scheduler = Full() if scheduler is None else scheduler
        runtime = Runtime() if runtime is None else runtime
        arguments.check_kinds(space, searcher, scheduler, runtime, model, trainer, seed)
        length = arguments.full_length(epochs, trainer)
        self.model, self.space, self.runtime = model, space, runtime.of_a_study()
        self.seed, self.paired = (seed := int(seed)), check_flag("Study: paired", paired)
        self.progress = check_flag("Study: progress", progress)
        self.callbacks = callbacks_of(callbacks)
        self._listeners = Listeners(self)
        arguments.check_precision_used(trainer, self.runtime)
        self.replicas = replicas = arguments.replicas_of(replicas, trainer)
        self.lag = lag = arguments.lag_of(lag, self.runtime, trainer)
        self.trainer: Any = None if trainer is None else repeated(trainer, replicas)
        self.objective = arguments.objective_of(maximize, minimize, at, limits, self.trainer)
        single = None if self.trainer is None else self.trainer.single
        self._shown = tuple(dict.fromkeys([*self.objective.metrics, *of_module(getattr(single, "metrics", {}))]))
        steps = tuple(getattr(model, "steps", ()))
        self._front_of = partial(Front, objective=self.objective, metrics=self._shown, steps=steps)
        self._progress = Progress(progress, self.objective, self.runtime)
        space.check_where()
        searcher.check(space)
        self._folder = folder = folder_to_open(Folder.of(folder))
        self.folder = None if folder.path is None else Path(folder.path)
        self._place = None if folder.path is None else path_of("Study: folder", folder.path).absolute()
        if trainer is not None:
            new = self._place is None or not os.path.exists(self._place / "study.sqlite")
            dry_run = StudyDryRun(space, model, self.runtime, new, self._progress.log)
            self._preflight = Preflight(trainer, dry_run, self.objective, seed)
            self._preflight.check()
        self.history = History(space, self.objective, seed, length)
        self.history.settled = () if model is None else tuple(model.steps)
        scheduler.check(self.history)
        store, states = folder.open()
        probes = None
        if trainer is not None and trainer.inspectable and model is not None:
            inspected: Any = trainer
            probes = Probes(store, space, model, inspected, self.runtime, seed, self._progress.log)
            self.history.prober = probes
        self._measures = None if trainer is None else measures_of(trainer, store)
        models = trainer is None or trainer.has_model
        self._ledger = Ledger(
            store, states, self.history, folder.keep, folder.checkpoint, elsewhere=trainer is None, models=models
        )
        self._driver = Driver(
            trainer=self.trainer, job=self._job, searcher=searcher, scheduler=scheduler, ledger=self._ledger,
            probes=probes, progress=self._progress, measures=self._measures, paired=paired, lag=lag,
            call=self._listeners.report, ended=self._listeners.trial_end,
        )  # fmt: skip
        self._asked = AskAndTell(self._driver, self._listeners.begin, scheduled=trainer is None)
        self.history.lengths = lengths = lengths_of(store)
        if trainer is not None and trainer.epochs in lengths:
            self._set_length(lengths[0])  # the study that was begun is compared
        growing = Growing(self, store)
        self._ledger.growth = growing.growth
        self._finals: FinalModels | None = None
        self._last_record: StudyRecord | None = None
        self._adopt_length()
        self._ledger.sync()
        if growing.changes and trainer is not None:
            self._preflight.check_grown(growing.examples())
        growing.record(self.history, self._progress.log)
        self._ledger.want(scheduler.keep(self.history))
        self._ledger.recover()
        self._confirmed = last_choice(store, self.history)
        self._confirmed_front = last_front(store, self.history)
        hand_over(self)

    # Parts that may be replaced between runs.

    @property
    def searcher(self) -> Searcher:
        """The searcher, which proposes configurations."""
        return self._driver.searcher

    @searcher.setter
    def searcher(self, searcher: Searcher) -> None:
        arguments.check_kind("searcher", searcher, Searcher)
        searcher.check(self.space)
        self._driver.searcher = searcher

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, which decides which trial trains next and how far."""
        return self._driver.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Scheduler) -> None:
        arguments.check_kind("scheduler", scheduler, Scheduler)
        scheduler.check(self.history)
        self._driver.scheduler = scheduler

    # Results.

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def best(self) -> Result:
        """The finished trial with the best score within the limits; or the one that `confirm` chose, until more end.

        A configuration that was trained several times has the mean of these trials as its score, with its standard
        error.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there are several objectives; `front` is what they have.
        """
        best, confirmed = self.history.best, self._confirmed
        if confirmed is not None and confirmed.ended == self.history.ended:
            return self._result(self.history.trials[confirmed.number], confirmed=confirmed)
        if self.trainer is not None and self.trainer.has_model:
            best = with_kept_model(best, self.history, self._ledger.states)
        return self._result(best, rivals=scores_of(self.history))

    @property
    def front(self) -> Front:
        """The finished trials within the limits that no other one beats in every objective, by number.

        Of trials that are equal in all of them it has the first. A list that prints as a table. After
        `confirm(front=True)`, and until more trials end, it holds those of the members trained anew that are on the
        front of the means.
        """
        members = self._confirmed_front
        if members and members[0].ended == self.history.ended:
            return self._members(unbeaten(self.objective, members))
        return self._front_of(map(self._result, self.history.front))

    def result(self, number: int) -> Result:
        """Return trial `number` with its model; only the best `keep` trials still have theirs.

        Raises:
            StudyError: there is no such trial.
        """
        if not isinstance(number, int) or not 0 <= number < len(self.history):
            raise StudyError(f"there is no trial {number}; this study has {len(self.history)}.")
        return self._result(self.history.trials[number])

    def test(self, data: Any) -> Mapping[Any, Any]:
        """Return the metrics of the best model on data that no trial has seen, with 95 % intervals; see Result.test.

        With several objectives, those of each member of the front, by the trial's number; the table that this prints as
        names the members that are beaten on these data.
        """
        return self.front.test(data) if self.objective.several else self.best.test(data)

    @overload
    def confirm(self, top: int | None = None, seeds: int = 3, front: Literal[False] = False) -> Result: ...
    @overload
    def confirm(self, top: int | None = None, seeds: int = 3, *, front: Literal[True]) -> Front: ...
    @short_interrupts
    @hinting
    def confirm(self, top: int | None = None, seeds: int = 3, front: bool = False) -> Result | Front:
        """Choose among the best trials by fresh seeds; `best` is the one chosen from then on, until more trials end.

        The best of many noisy scores is in part the luckiest. So the configurations of the `top` trials, as the
        searcher ranks them, are trained anew under `seeds` seeds, each to the epoch that counts for its trial. The one
        with the best mean is trained under as many others, and their mean is its score: nothing was chosen by it. Its
        model stays that of the trial itself. Every training is kept with the study and made only once. Fresh seeds do
        not remove the luck of the validation examples; for that, `test`. Folds stay the same.

        With several objectives, `front=True` trains the configurations of the front anew. It returns all of them with
        their means, and `front` holds those that are on the front of the means. The members that stay are chosen by
        these means, so the means are a little too good.

        Args:
            top: number of trials to choose among, 5 by default; of a front the least crowded, all by default.
            seeds: number of trainings of each, and again of the one chosen.
            front: confirm the front of several objectives.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there is no trainer, no training came to its end, or `front` is not as the number of objectives
                asks for.
        """
        if self.trainer is None:
            raise StudyError("confirm: this study has no trainer to train under fresh seeds; use ask and tell.")
        front = check_flag("confirm: front", front)
        check_front(front, self.objective)
        top, seeds = None if top is None else check_whole("confirm: top", top), check_whole("confirm: seeds", seeds)
        self._ledger.sync()
        return self._confirm_front(top, seeds) if front else self._confirm_best(top or TOP, seeds)

    def _confirm_best(self, top: int, seeds: int) -> Result:
        ranked = self.searcher.ranked(self.space, self.history)
        looks = self._looks(top * seeds)
        self._confirmed = chosen = choose(looks, self.history, ranked, top, seeds, self._progress.log)
        self._ledger.choose(chosen.number, self._lost_state(self.history.trials[chosen.number]))
        store_choice(self._ledger.store, chosen)
        self._ledger.commit()
        return self.best

    def _confirm_front(self, top: int | None, seeds: int) -> Front:
        looks = self._looks(seeds * len(self.history.front))
        self._confirmed_front = members = confirm_front(looks, self.history, top, seeds, self._progress.log)
        store_front(self._ledger.store, members)
        self._ledger.commit()
        return self._members(members)

    def _looks(self, count: int) -> Looks:
        """Return what trains under fresh seeds; about `count` trainings are to come."""
        executor, trainer = partial(self._executor, lambda: count), repeated(self.trainer.single, 1)
        parts = (trainer, self._fresh_job, self._progress.following_trainings, self._measures)
        return Looks(self._ledger.store, self.objective, executor, *parts)

    def _curve(self, trial: Trial, rows: Sequence[int] | None, seeds: int) -> LearningCurve:
        """Return the learning curve of a trial; its trainings are kept in the store."""
        self._ledger.sync()
        from_start = self.history.origin(trial).parent is None
        return curve_of(self._looks, self.trainer.single, trial, from_start, rows, seeds)

    def _lost_state(self, trial: Trial) -> TrainState | None:
        """Train a trial again to the epoch that counts for it, unless the state after that epoch is kept."""
        selected = self.objective.pick(trial.reports)
        if selected is None or selected.epoch in self._ledger.states.epochs(trial.number):
            return None
        ((_, last, _),) = trained(self._executor, self.trainer, [(self._job(trial), selected.epoch)])
        return None if last is None else last.state

    def record(self) -> StudyRecord:
        """Return all that is known of the study as plain facts, which tables, plots, reports and advice are made from.

        What other processes wrote is read first. `tn.open(folder).record()` gives the same without the study's code.
        """
        if self._last_record is not None:
            return self._last_record
        ledger, front = self._ledger, self._confirmed_front
        ledger.sync()
        chosen = front if self._confirmed is None else [self._confirmed]
        return StudyRecord(
            name=IN_MEMORY if self.folder is None else str(self.folder),
            facts=ledger.store.recall(FACTS) or {},
            space=self.space,
            history=self.history,
            confirmed=[one for one in chosen if one.ended == self.history.ended],
            tested=kept_tests(ledger.store),
            probes=probes_of(ledger.store),
            grown=ledger.growth.changes,
            gains=gains_of(ledger.store),
        )

    def importance(self, metric: str | None = None) -> Importance:
        """Return how much of the differences in score each parameter is responsible for, with 90 % intervals.

        Prints as a table. Each trial counts, wherever the searcher looked most, whether it was stopped or failed.

        Args:
            metric: the objective that it is of; None for the only one.

        Raises:
            NothingFinished: fewer than 4 configurations have ended, or none has a score.
            StudyError: no such objective, or several and none named.
        """
        return importance_of(self.record(), metric)

    def report(self, path: str | Path = "report.html", beside: Sequence[StudyRecord | Recorded] = ()) -> Path:
        """Write what is known of the study as a page to look at, and return where it is.

        One HTML file, which needs no network and no server: the result with its ties, the history, the trials, and
        how to reproduce them. `python -m tuneflow report FOLDER` writes the same of a folder.

        Args:
            path: the file; one that is there is replaced.
            beside: other studies, or opened folders, with the same objective: the page then compares their best scores
                so far against trials, epochs and seconds. Those that differ only in their seed are one method.

        Raises:
            StoreError: the file cannot be written.
            ValueError: the studies do not have the same objective.
        """
        return write_report(self.record(), path, beside=beside)

    def advice(self) -> Advice:
        """Return what the trials say about the study's settings, the most valuable first; nothing is measured for it.

        A tuple of findings that prints as a line for each: ranges at whose ends the best trials crowd, more or fewer
        epochs, overfitting, noise, trials that fail. Each has its numbers, and the change that would help.
        """
        return advice_of(self.record())

    def adjusted(self, folder: str | Path | Folder | None = None) -> Self:
        """Return the next study, with every change of the advice carried out that is one of a setting, and show them.

        Ranges, parameters, epochs and replicas are changed; model, trainer, scheduler, runtime, seed and callbacks are
        the same. The searcher is the same behind a tn.Warm, which starts with the best configurations of this study and
        takes only the ranks of its trials, so they may have had another length; it drops them where they mislead.
        Whatever else the advice names is left to you. This study stays as it is.

        Args:
            folder: where the new study is kept; a study that is there goes on. None for a neighbor of this one's
                folder, "runs/digits-2" beside "runs/digits", or for memory where it has none.

        Raises:
            StudyError: the advice changes no setting.
            FingerprintError: the folder holds a study that was made with other settings, as by earlier advice.
        """
        settings, lines = next_settings(self)
        for line in lines:
            self._progress.log(line)
        return type(self)(**settings, folder=neighbor(self._folder) if folder is None else folder)

    def table(self) -> Table:
        """Return the trials as a table, a row each: a dict of columns, with `to_pandas`, `to_polars` and `to_csv`.

        Its columns are trial, status, the parameters by their dotted names (None where not active), the metrics of the
        epoch that counts, their standard errors as `accuracy_error`, epochs, seconds, parent and parent_epoch of a
        fork, repeats and reason. A name that would stand for two of them has `config.`, `metrics.` or `errors.` in
        front.
        """
        return trial_table(self.record())

    def curves(self) -> Table:
        """Return the epochs of all trials as a table, a row each: trial, epoch, metrics, their errors and seconds."""
        return curve_table(self.record())

    @short_interrupts
    def replay(self, share: float = 1.0, seed: int | None = None) -> Replayed:
        """Train a share of what this study has trained again and compare: forged or damaged results are found.

        Each trial is cut into slices where a state of it is kept. A slice is trained from the state at its start, in
        this process, and its reports and the state at its end have to be as they are kept: equal to the last bit where
        the machine and all settings are the same, and else as close as rounding leaves them. So is what `confirm`
        trained, and each final model of a cross-validation. Nothing is written.

        Args:
            share: of the slices, above 0 and up to 1; at least one is trained. One that differs is among them with this
                probability.
            seed: of the choice among the slices; None for a fresh one, which nobody knew before.

        Returns:
            What was replayed and what differs, a line each; `ok` is True where nothing does.

        Raises:
            StudyError: this study has no trainer, or has trained nothing yet.
            ValueError: the share is not above 0 and up to 1.
        """
        check_share(share)
        if self.trainer is None:
            raise StudyError("replay: trials of ask and tell were trained elsewhere; train them again there.")
        self._ledger.sync()
        states, store, final = self._ledger.states, self._ledger.store, self._finals
        parts = (self.trainer, self.history, states, store, self._job, self.runtime, self._looks(1), final)
        return Replay(*parts).of(share, seed)

    def close(self) -> None:
        """Close the folder; also done at the end of a `with` block."""
        try:
            self._listeners.end()
            self._progress.close()
        finally:
            with suppress(StoreError):
                self._last_record = self.record()  # for tables and pages, which may come later
            self._ledger.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ended = len(self.history.finished)
        where = printable(str(self.folder or "in memory"))
        return f"Study({where}: {ended} of {len(self.history)} trials ended, {self.space!r})"

    def _repr_html_(self) -> str:
        return study_fragment(self.record(), "Study")

    # Trials that are trained elsewhere.

    def enqueue(self, config: Config) -> None:
        """Put `config` in the queue, which is tried before the searcher is asked again.

        Raises:
            ValueError: it is not in the space; the message names the parameter.
        """
        self._ledger.store.enqueue(self.space.cast(config))

    def ask(self, trials: int | None = None) -> Trial | None:
        """Return the next trial to be trained elsewhere: a new one, or one that the scheduler lets go on.

        Train it from epoch `trial.epochs`, 0 for a new one, to epoch `trial.until`, and report every epoch to `tell`;
        without a full length `until` may be None. A trial with a `parent` starts from the state that the other trial
        had after that epoch. In a study with a trainer, which trains what the scheduler decides on, it is always a new
        trial.

        Args:
            trials: the total number of trials, as of `run`; None for no limit.

        Returns:
            The trial; None when the searcher has ended, when there are `trials` trials and none goes on, or while a
            running one has to report first.

        Raises:
            StudyError: the study has `lag=`, and trains its trials itself.
        """
        if self.lag is not None:
            raise StudyError("ask: with lag= the study trains its trials itself; call run(), or leave out lag=.")
        return self._asked.ask(math.inf if trials is None else check_whole("ask: trials", trials))

    def tell(
        self,
        trial: Trial | int,
        metrics: Mapping[str, Any] | float | tuple[float, float] | Told | None = Told.NOTHING,
        *,
        errors: Mapping[str, float] | float | None = None,
        done: bool = True,
        reason: str = "",
    ) -> Trial:
        """Report the metrics of a trial that `ask` returned, and return it as it stands.

        With `done=False` it has trained one epoch more, and the scheduler is asked: the trial comes back as STOPPED,
        with the reason; as PAUSED at its `until`; as DONE at its full length; else as RUNNING. A trial that the
        scheduler has stopped meanwhile comes back as it is, and what was told of it is dropped. Without metrics a trial
        ends as DONE with what it reported before. Seconds count from `ask`, or the call before.

        Args:
            trial: the trial, or its number.
            metrics: metrics by name, or one number for a single objective, and a pair (value, standard error) in place
                of any number; None for a trial that failed.
            errors: standard errors by name, or one number for a single objective.
            done: False reports one more epoch.
            reason: why the trial failed.

        Raises:
            StudyError: there is no such trial here, it has ended or waits for the scheduler, the process that asked
                for it still runs, or the metric of an objective is missing.
            TypeError: a metric is not a number, done= is neither True nor False, or reason= is no string.
            ValueError: an error is negative or not finite, or arguments contradict each other.
        """
        number = self._asked.number_of(trial)
        check_words(number, done, reason)
        if metrics is None or metrics is Told.NOTHING:
            if errors is not None or not done:
                raise ValueError(f"tell: trial {number}: errors= and done=False need metrics.")
            if metrics is None:
                return self._asked.fail(number, reason or "reported as failed")
        if reason:
            raise ValueError(
                f"tell: trial {number}: reason= is for a trial that failed: tell(trial, None, reason=...)."
            )
        what = f"tell, trial {number}"
        reported = None if metrics is Told.NOTHING else told(metrics, errors, self.objective, what)
        return self._asked.tell(number, reported, done)

    # The loop.

    @short_interrupts
    @hinting
    @one_at_a_time
    def run(
        self,
        trials: int | None = None,
        epochs: int | None = None,
        seconds: float | None = None,
        target: float | None = None,
        plateau: int | None = None,
    ) -> None:
        """Train until there are `trials` trials in all; call it again to go on.

        The first Ctrl-C or SIGTERM finishes the epoch and leaves; a second one leaves now, also where an epoch or a
        worker hangs. Either way the study goes on where it was when it is run again. Whatever else the code of a trial
        raises, SystemExit too, ends that trial as FAILED.

        Args:
            trials: the total number of trials, those of earlier runs included.
            epochs: stop when this many epochs were trained in all; unfinished trials are paused.
            seconds: stop after this many seconds, at the end of an epoch; unfinished trials are paused.
            target: stop when a finished trial has a score as good as this.
            plateau: stop when this many trials in a row have ended without a better score.

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
        if not len(self.history):
            first = partial(first_config, self.searcher, self._ledger, self.paired, budget.trials)
            begun = self._preflight.rehearse(first, self._job)
            if begun is not None and self.trainer is self.trainer.single and trains_alike(self.runtime):
                executor = HeadStart(executor, begun, lambda number: self.history.trials[number].config)
            if self.trainer.single.inspectable and self.runtime.advises:
                gain = self._progress.suggest_precision(self.trainer.single, self._preflight.example())
                note_gain(self._ledger.store, gain)
        self._ledger.recover()
        self._adopt_length()
        if self.folder is not None and len(self.history) and len(self.history) < budget.trials:
            self._progress.resumed(self.folder, self.history)
        with self._listeners.running():
            if (ready := self._finish_extensions(executor, budget)) is not None:
                self._progress.over(self._driver.run(ready, budget))
        self._progress.advise(self.record)

    @short_interrupts
    @hinting
    @one_at_a_time
    def extend(self, epochs: int, top: int | None = None) -> Extended:
        """Train trials that have ended on to a longer full length; call it again to go on where it was interrupted.

        A trial goes on as a new one, from its last epoch (trained again where the state of an earlier one is kept),
        with its configuration and seed: together they are, to the digit, a trial of this length. Nothing of the study
        is rewritten. Those go on that are DONE, whose state is kept, and whose learning-rate schedule does not depend
        on the full length; of a `tn.loop` only torch schedulers in `run.epochs(...)` are looked at. New trials have the
        new length from then on; searchers compare trials at the first one.

        Args:
            epochs: the new full length of trials.
            top: extend only so many, the best; None for all that can be.

        Returns:
            The trials that went on, and the reason for each of the others.

        Raises:
            ValueError: epochs is not more than the full length, and the study was never extended to it.
            StudyError: a trial has not ended, or none can go on; the message gives the reasons.
        """
        if self.trainer is None:
            raise StudyError("extend: this study has no trainer; trials of ask and tell are trained elsewhere.")
        epochs, top = check_whole("extend: epochs", epochs), None if top is None else check_whole("extend: top", top)
        executor = self._executor()
        self._ledger.recover()
        self._adopt_length()
        check_epochs(epochs, self.history)
        first, resumed = len(self.history), [trial.number for trial in self.history.extending]
        left: dict[int, str] = {}
        with self._listeners.running():
            ready = self._finish_extensions(executor, Budget())
            if ready is not None and epochs >= self.history.epochs:
                left = Extension(self._ledger, self.trainer, self._job).begin(epochs, top)
                for line in left_lines(left):
                    self._progress.log(f"extend  {line}")
                self._adopt_length()
                self._finish_extensions(ready, Budget())
        trained = (t for t in self.trials if t.extends and (t.number >= first or t.number in resumed))
        return Extended(self.history.epochs, tuple(trained), left)

    def _finish_extensions(self, executor: Executor, budget: Budget) -> Executor | None:
        """Train on the trials that extend others; return an executor for what comes next, None if they did not end."""
        if not self.history.extending:
            return executor
        total = self._progress.total
        self._progress.begin(len(self.history), self.progress)
        driver = replace(self._driver, scheduler=Extending(self.scheduler))
        self._progress.over(driver.run(executor, replace(budget, trials=len(self.history))))
        self._progress.begin(total, self.progress)
        return None if self.history.extending else self._executor()

    def _adopt_length(self) -> None:
        """Train to the full length that the study was extended to, here or by another process."""
        self.history.lengths = lengths = lengths_of(self._ledger.store)
        if lengths:
            self._set_length(lengths[-1])
        if self.trainer is not None and self.trainer.folds > 1 and (lengths or self._finals is None):
            self._finals = self._final_models()

    def _set_length(self, epochs: int) -> None:
        self.history.epochs = epochs
        if self.trainer.epochs != epochs:
            longer = self.trainer.with_epochs(epochs).reporting_at(self.history.lengths)  # where trials are compared
            self.trainer = self._driver.trainer = longer

    def _executor(self, left: Callable[[], float] = lambda: 0) -> Executor:
        """Return a new executor of the runtime; `left` returns the number of trials to come."""
        return study_executor(self.runtime, EngineCache(self._ledger.store, left, self._progress.show))

    def _final_models(self) -> FinalModels:
        """Return the models that are trained on all rows, one by one."""
        states = self._folder.states("final")
        alone = copy.copy(self.runtime)
        alone.lanes = 1
        executor, log = partial(study_executor, alone, EngineCache()), self._progress.log
        kept = self._ledger.states.epochs
        return FinalModels(states, kept, self.trainer.single, self.history, self._job, executor, log)

    def _job(self, trial: Trial) -> Job:
        """Return the trial's job: its model, configuration, runtime and seed."""
        trial = self.history.origin(trial)
        config = self.space.resolve(trial.config)
        own = not self.paired or trial.repeats is not None
        return Job(self.model, config, self.runtime, self.seed, trial=trial.number if own else None)

    def _fresh_job(self, number: int, seed: int) -> Job:
        """Return a trial's job under a seed that no trial was trained under."""
        return replace(self._job(self.history.trials[number]), replica=self.replicas + seed)

    def _members(self, members: Sequence[Confirmed]) -> Front:
        """Return the members of a front that were confirmed, with their means."""
        return self._front_of(self._result(self.history.trials[one.number], confirmed=one) for one in members)

    def _result(self, trial: Trial, confirmed: Confirmed | None = None, rivals: Any = None) -> Result:
        selected = self.objective.pick(trial.reports)
        metrics, epoch = self._shown, selected.epoch if selected else 0
        final = None if self._finals is None else partial(self._finals.state, trial)
        curve = None if self.trainer is None else partial(self._curve, trial)
        parts = (self._job(trial), self.trainer, self._ledger.states, metrics, epoch, rivals, final, curve)
        keep = KeptTests(self._ledger, self.trainer)
        origin = Provenance(*parts, trainings=len(self.history.trainings.numbers(trial)), keep=keep)
        values = {field.name: getattr(trial, field.name) for field in fields(trial)}
        return Result(**values, origin=origin, confirmed=confirmed)
