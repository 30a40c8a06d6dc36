"""Study: the one loop that knows space, searcher, scheduler, trainer, runtime and store, and none of their kinds."""

import bisect
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch

from tuneflow.errors import StoreError, StudyError, did_you_mean, listed
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.fingerprint import compare
from tuneflow.model import Model
from tuneflow.result import Origin, Result, Scores
from tuneflow.runtime import Runtime
from tuneflow.schedule.full import Full
from tuneflow.schedule.scheduler import Continue, Scheduler, Start, Stop
from tuneflow.search.random import Random
from tuneflow.search.searcher import Searcher
from tuneflow.seeds import stream
from tuneflow.space import SearchSpace
from tuneflow.store.memory import MemoryStore
from tuneflow.store.sqlite import SqliteStore
from tuneflow.store.states import States
from tuneflow.store.store import Store
from tuneflow.train.check import check_space
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer, whole
from tuneflow.trial import History, Objective, Slice, Trial, Trials, summarise
from tuneflow.version import __version__

FAILURES = 5  # failed trials in a row that end a run


class Study:
    """Tunes a model: proposes trials, trains them, keeps what happened, hands over the best model.

    Args:
        model: how the module is made.
        trainer: how it is trained.
        space: what is tuned; sections `model`, `optimizer`, `loss`, `trainer`.
        searcher: where new trials start; Random() by default.
        scheduler: who trains next and how far; Full() by default.
        maximize, minimize: the metric to tune for, one of the two; `minimize="loss"` by default.
        at: "best": a trial counts with its best epoch, score and weights alike; "last": with its last.
        runtime: the device; Runtime() by default.
        folder: where the study is kept; a study that is there already goes on. None keeps it in memory.
        seed: any whole number; with it everything random is settled.
        paired: trials share initialisation seeds and data order, so that they differ by their configuration
            only; False adds the trial's number to the seed.
        keep: of how many of the best trials the trained state is kept.
        checkpoint: seconds between writes of unfinished trials' states to the folder; what was trained since
            is trained again, to the same digits, when the process dies.
        progress: print a line for each finished trial.

    Raises:
        ValueError, TypeError: an argument, a section or a name does not fit; before any training.
        FingerprintError: the folder holds a study that was made with something else.
        StoreError: the folder cannot be used.
    """

    def __init__(
        self,
        *,
        model: Model,
        trainer: Trainer,
        space: SearchSpace,
        searcher: Searcher | None = None,
        scheduler: Scheduler | None = None,
        maximize: str | None = None,
        minimize: str | None = None,
        at: Literal["best", "last"] = "best",
        runtime: Runtime | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        paired: bool = True,
        keep: int = 1,
        checkpoint: float = 10.0,
        progress: bool = True,
    ) -> None:
        self.model, self.trainer, self.space = model, trainer, space
        self.searcher, self.scheduler = searcher or Random(), scheduler or Full()
        self.runtime = runtime or Runtime()
        self.seed, self.paired, self.checkpoint, self.progress = seed, paired, checkpoint, progress
        self.keep = whole("Study", "keep", keep)
        self._check_kinds()
        self.objective = _objective(maximize, minimize, at, trainer)
        self.searcher.check(space)
        check_space(space, model, trainer, self.runtime)
        self.folder = None if folder is None else Path(folder)
        self._store, self._states = _open(self.folder)
        self._compare()
        self.history = History(space, self.objective, seed, trainer.epochs)
        self._kept: list[tuple[float, int]] = []  # (cost, number) of the best trials, whose states are kept
        self._flushed = time.monotonic()
        self._failures = 0
        for trial in self._store.trials():
            self._recover(trial)

    def _check_kinds(self) -> None:
        for name, value, kind in (
            ("model", self.model, Model),
            ("space", self.space, SearchSpace),
            ("searcher", self.searcher, Searcher),
            ("scheduler", self.scheduler, Scheduler),
            ("runtime", self.runtime, Runtime),
        ):
            if not isinstance(value, kind):
                hint = " (an instance: add parentheses)" if isinstance(value, type) else ""
                raise TypeError(f"Study: {name} needs a tn.{kind.__name__}, got {value!r}{hint}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"Study: seed needs to be a whole number, got {self.seed!r}.")

    # Results.

    @property
    def trials(self) -> Trials:
        """Every trial, by number."""
        return self.history.trials

    @property
    def best(self) -> Result:
        """The finished trial with the best score.

        Raises:
            NothingFinished: no trial has a score yet.
        """
        return self._result(self.history.best)

    def result(self, number: int) -> Result:
        """Trial `number` with its model; only the best `keep` trials still have theirs."""
        if not 0 <= number < len(self.history):
            raise StudyError(f"there is no trial {number}; this study has {len(self.history)}.")
        return self._result(self.history.trials[number])

    def test(self, data: Any) -> Scores:
        """Metrics of the best model on data that no trial has seen, each with its 95 % interval; see Result.test."""
        return self.best.test(data)

    def close(self) -> None:
        """Give back the folder; also done at the end of a `with` block."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ended = len(self.history.finished)
        return f"Study({self.folder or 'in memory'}: {ended} of {len(self.history)} trials ended, {self.space!r})"

    # The loop.

    def run(self, trials: int | None = None, epochs: int | None = None, seconds: float | None = None) -> None:
        """Train until there are `trials` trials in all; run again, it goes on or has nothing to do.

        Args:
            trials: the total number of trials, those of earlier runs included.
            epochs: stop when this many epochs were trained in all; unfinished trials are paused.
            seconds: stop after this long, at the end of an epoch; unfinished trials are paused.

        Raises:
            ValueError: no limit is given and the searcher never ends.
            StudyError: five trials in a row failed.
        """
        for name, value in (("trials", trials), ("epochs", epochs)):
            if value is not None:
                whole("run", name, value)
        if trials is None and epochs is None and seconds is None and not self.searcher.ends:
            raise ValueError(f"run needs trials=, epochs= or seconds=, since {self.searcher!r} never ends.")
        most = math.inf if trials is None else trials
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        left = math.inf if epochs is None else epochs - sum(trial.epochs for trial in self.history.trials)
        self._failures = 0
        executor = self.runtime.executor()
        try:
            while left > 0 and time.monotonic() < deadline:
                while executor.free and self._decide(executor, most):
                    pass
                if not executor.busy:
                    break
                for event in executor.wait():
                    if isinstance(event, Reported):
                        left -= 1
                        self._reported(event, executor)
                    elif not self.history.trials[event.trial].ended:
                        self._ended(event)
        finally:
            executor.close()
            self._pause()

    def _decide(self, executor: Executor, most: float) -> bool:
        """Carry out one decision of the scheduler; False when there is nothing to submit."""
        history = self.history
        rng = stream(self.seed, "schedule", len(history), len(history.finished))
        decision = self.scheduler.next(self.space, history, rng)
        if isinstance(decision, Continue):
            self._submit(history.trials[decision.trial], decision.until, executor)
            return True
        if isinstance(decision, Stop):
            self._end(history.trials[decision.trial], "STOPPED", decision.reason)
            return True
        if not isinstance(decision, Start) or len(history) >= most:
            return False
        trial = self._suggest()
        if trial is None:
            return False
        self._put(trial)
        self._submit(trial, decision.until, executor)
        return True

    def _suggest(self) -> Trial | None:
        number = len(self.history)
        self.history.number = number
        config = self.searcher.suggest(self.space, self.history, stream(self.seed, "search", number))
        if config is None:
            return None
        try:
            return Trial(number, self.space.cast(config))
        except ValueError as error:
            raise ValueError(f"{self.searcher!r} proposed for trial {number}: {error}") from None

    def _submit(self, trial: Trial, until: int, executor: Executor) -> None:
        state = self._states.get(trial.number, trial.epochs) if trial.epochs else None
        if trial.status != "RUNNING":
            self.history.record(replace(trial, status="RUNNING"))
        work = Slice(trial.number, trial.epochs, min(until, self.history.epochs))
        executor.submit(work, self.trainer, self._job(trial), state)

    def _job(self, trial: Trial) -> Job:
        config = self.space.resolve(trial.config)
        return Job(self.model, config, self.runtime, self.seed, trial=None if self.paired else trial.number)

    # Events.

    def _reported(self, event: Reported, executor: Executor) -> None:
        trial, report = self.history.trials[event.trial], event.report
        trial = replace(trial, **summarise(trial, (*trial.reports, report), self.objective))
        self.history.record(trial)
        self._store.report(trial.number, report)
        if not math.isfinite(self.objective.cost(report.metrics)):
            executor.stop(trial.number)
            value = report.metrics[self.objective.metric]
            self._end(trial, "DIVERGED", f"{self.objective.metric} is {value} at epoch {report.epoch}")
            return
        self._states.put(trial.number, event.state)
        self._states.keep(trial.number, self._needed(trial))
        if time.monotonic() - self._flushed > self.checkpoint:
            self._flush()

    def _ended(self, event: Ended) -> None:
        trial = self.history.trials[event.trial]
        if event.status != "DONE":
            trial = replace(trial, seconds=trial.seconds + event.seconds)
            self._end(trial, event.status, event.reason, event.detail)
        elif trial.epochs >= self.history.epochs:
            self._end(trial, "DONE")
        else:
            self._put(replace(trial, status="PAUSED"))

    def _end(
        self, trial: Trial, status: Literal["DONE", "STOPPED", "DIVERGED", "FAILED"], reason: str = "", detail: str = ""
    ) -> None:
        trial = replace(trial, status=status, reason=reason, detail=detail)
        dropped = self._admit(trial)
        kept = self.objective.pick(trial.reports) if trial.number not in dropped else None
        self._states.keep(trial.number, [kept.epoch] if kept else [])
        self._states.flush(trial.number)
        self._put(trial)
        for number in dropped:
            self._states.keep(number, [])
        if self.progress:
            print(_line(trial, self.objective), file=sys.stderr, flush=True)
        self._failures = self._failures + 1 if status == "FAILED" else 0
        if self._failures >= FAILURES:
            raise StudyError(f"{FAILURES} trials in a row failed, the last with {reason}\n{detail}".rstrip())

    def _admit(self, trial: Trial) -> list[int]:
        """Enter an ended trial among the best; the numbers of those whose states are not kept any more."""
        cost = self.history.cost(trial)
        if not math.isfinite(cost):
            return [trial.number]
        bisect.insort(self._kept, (cost, trial.number))
        dropped = self._kept[self.keep :]
        del self._kept[self.keep :]
        return [number for _, number in dropped]

    def _put(self, trial: Trial) -> None:
        self._store.put(trial)
        self.history.record(trial)

    # States and resuming.

    def _needed(self, trial: Trial) -> Iterable[int]:
        """Epochs of a live trial whose states are needed: the last, and the one that speaks for it."""
        spoken = self.objective.pick(trial.reports)
        return {trial.epochs} if spoken is None else {trial.epochs, spoken.epoch}

    def _flush(self) -> None:
        for trial in (*self.history.running, *self.history.paused):
            self._states.flush(trial.number)
        self._flushed = time.monotonic()

    def _pause(self) -> None:
        """What was running when a run ended goes on in the next."""
        self._flush()
        for trial in list(self.history.running):
            self._put(replace(trial, status="PAUSED"))

    def _recover(self, trial: Trial) -> None:
        """Enter a stored trial into the history; an unfinished one stands where its last usable state is."""
        if not trial.ended:
            kept = self._states.epochs(trial.number)
            epoch = len(trial.reports)
            while epoch and not kept.issuperset(
                self._needed(replace(trial, **summarise(trial, trial.reports[:epoch], self.objective)))
            ):
                epoch -= 1
            self._store.forget(trial.number, after=epoch)
            trial = replace(trial, status="PAUSED", reports=trial.reports[:epoch])
        seconds = trial.seconds if trial.ended else 0.0
        trial = replace(trial, config=self.space.cast(trial.config))
        trial = replace(trial, **summarise(trial, trial.reports, self.objective))
        trial = replace(trial, seconds=seconds or trial.seconds)
        self.history.record(trial)
        dropped = self._admit(trial) if trial.ended else []
        for number in dropped:
            self._states.keep(number, [])

    def _result(self, trial: Trial) -> Result:
        spoken = self.objective.pick(trial.reports)
        origin = Origin(
            self._job(trial), self.trainer, self._states, self.objective.metric, spoken.epoch if spoken else 0
        )
        return Result(**{f.name: getattr(trial, f.name) for f in fields(trial)}, origin=origin)

    def _compare(self) -> None:
        """Write what the study was made with, or refuse to go on with something else."""
        facts = {
            "tuneflow": __version__,
            "torch": str(torch.__version__),
            "space": self.space.to_json(),
            "objective": {
                "metric": self.objective.metric,
                "maximize": self.objective.maximize,
                "at": self.objective.at,
            },
            "seed": self.seed,
            "paired": self.paired,
            "model": repr(self.model),
            "trainer": self.trainer.describe(),
            "searcher": repr(self.searcher),
            "grid": repr(self.searcher) if self.searcher.ends else None,
            "scheduler": repr(self.scheduler),
            "runtime": self.runtime.describe(),
        }
        before = self._store.describe()
        if before is None:
            self._store.describe(facts)
        else:
            compare(before, facts, str(self.folder))


def _objective(maximize: str | None, minimize: str | None, at: Any, trainer: Trainer) -> Objective:
    if maximize is not None and minimize is not None:
        raise ValueError(
            f'Study: maximize="{maximize}" and minimize="{minimize}" exclude each other; drop one of them.'
        )
    if at not in ("best", "last"):
        raise ValueError(f'Study: at needs to be "best" or "last", got {at!r}.')
    word, metric = ("maximize", maximize) if maximize is not None else ("minimize", minimize or "loss")
    known = trainer.reports
    if metric not in known:
        raise ValueError(
            f'Study: {word}="{metric}" is not reported.{did_you_mean(str(metric), known)}'
            f" The trainer reports {listed(known)}."
        )
    return Objective(metric, maximize is not None, at)


def _open(folder: Path | None) -> tuple[Store, States]:
    if folder is None:
        return MemoryStore(), States(None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return SqliteStore(folder / "study.sqlite"), States(folder / "states")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be used as a study's folder ({error}).") from None


def _line(trial: Trial, objective: Objective) -> str:
    score = f"{objective.metric} {trial.metrics[objective.metric]:.4f}" if trial.metrics else ""
    words = [
        f"trial {trial.number}",
        trial.status,
        score,
        f"{trial.epochs} epochs",
        f"{trial.seconds:.1f} s",
        trial.reason,
    ]
    return "  ".join(word for word in words if word)
