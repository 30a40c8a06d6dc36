"""Extension: trials that ended at the full length of a study go on to a longer one, as new trials."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from typing_extensions import override

from tuneflow.errors import StudyError, plural, printable
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Wait
from tuneflow.space.search_space import SearchSpace
from tuneflow.store.store import Store
from tuneflow.study.ledger import Ledger
from tuneflow.study.retention import origin_state
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol

log = logging.getLogger("tuneflow")

LENGTHS = "lengths"  # the key of a study's full lengths
NOT_KEPT = 'no state is kept; tn.Folder(path, keep="all") keeps those of all'


@dataclass(frozen=True)
class Extended:
    """The outcome of `study.extend`.

    Attributes:
        epochs: the full length of the study's trials from now on.
        trials: the trials that were trained on, as new ones; `trial.parent` is (number, epoch) of the one it extends.
        left: number of each other ended trial, and the reason why it was not trained on.
    """

    epochs: int
    trials: tuple[Trial, ...]
    left: Mapping[int, str]

    def __repr__(self) -> str:
        lines = [f"{plural(len(self.trials), 'trial')} trained on to epoch {self.epochs}"]
        lines += [f"  trial {t.number}, which extends trial {(t.parent or (0,))[0]}: {t.status}" for t in self.trials]
        return "\n".join(map(printable, [*lines, *left_lines(self.left)]))


def left_lines(left: Mapping[int, str]) -> list[str]:
    """Return lines that name the trials that were left as they are, by reason."""
    numbers: dict[str, list[str]] = {}
    for number, reason in left.items():
        numbers.setdefault(reason, []).append(str(number))
    return [
        f"left as {'they are' if len(those) > 1 else 'it is'}: {'trials' if len(those) > 1 else 'trial'}"
        f" {', '.join(those)}: {reason}"
        for reason, those in numbers.items()
    ]


def lengths_of(store: Store) -> tuple[int, ...]:
    """Return every full length of a study that was extended, the first one first; none of any other."""
    return tuple((store.recall(LENGTHS) or {"epochs": ()})["epochs"])


class Extending(Scheduler):
    """Trains on what `study.extend` has begun, and nothing else.

    Args:
        scheduler: the study's, which may still need states.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    @override
    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        waiting = (trial.number for trial in history.extending if trial.status == "PAUSED")
        number = next(waiting, None)
        return Wait() if number is None else Continue(number, history.epochs)

    @override
    def keep(self, history: History) -> Iterable[tuple[int, int]]:
        return self._scheduler.keep(history)


@dataclass(frozen=True)
class Extension:
    """The choice of trials to train on, and their entry as new ones.

    Args:
        ledger: the study's, up to date.
        trainer: the study's, of the full length so far.
        job: returns a trial's job.
    """

    ledger: Ledger
    trainer: TrainerProtocol
    job: Callable[[Trial], Job]

    def begin(self, epochs: int, top: int | None) -> dict[int, str]:
        """Enter a paused trial for each that can go on to `epochs`; return the reasons of the others by number.

        Raises:
            StudyError: a trial has not ended, no trial can go on, or another process has the study for itself.
        """
        with self.ledger.alone():
            self.ledger.sync()
            self._check_ended()
            chosen, left = self._chosen(epochs, top)
            if not chosen and epochs > self._history.epochs:
                raise StudyError(_refusal(epochs, left))
            self._note(epochs)
            for trial in chosen:
                self._enter(trial, epochs)
            self.ledger.commit()
        return left

    @property
    def _history(self) -> History:
        return self.ledger.history

    def _check_ended(self) -> None:
        history = self._history
        live = [*history.running, *history.paused, *history.extending]
        if live:
            first = live[0]
            raise StudyError(
                f"extend: {plural(len(live), 'trial')} {'has' if len(live) == 1 else 'have'} not ended (trial"
                f" {first.number} is {first.status} at epoch {first.epochs}); run(trials={len(history)}) ends them."
            )

    def _note(self, epochs: int) -> None:
        """Record the new full length; it is written before the trials that are trained to it."""
        lengths = self._history.lengths or (self._history.epochs,)
        if epochs not in lengths:
            self.ledger.store.note(LENGTHS, {"epochs": [*lengths, epochs]})

    def _enter(self, trial: Trial, epochs: int) -> None:
        number = self.ledger.claim(float("inf"))
        if number is not None:
            new, repeats = replace(self._from(trial), number=number), self._repeated(trial, epochs)
            self.ledger.start(replace(new, epochs=trial.epochs, repeats=repeats))
            self.ledger.pause(number)

    def _repeated(self, trial: Trial, epochs: int) -> int | None:
        """Return the first trial that extends another training of a trial's configuration to the same length."""
        others = {*self._history.trainings.numbers(trial)} - {trial.number}
        there = (t for t in self._history.trials if t.extends and (t.status == "PAUSED" or t.epochs >= epochs))
        same = (t.number for t in there if t.parent is not None and t.parent[0] in others)
        return next(same, None) if others else None

    def _chosen(self, epochs: int, top: int | None) -> tuple[list[Trial], dict[int, str]]:
        """Return the trials to train on to `epochs`, by number, and the reasons of the others by number."""
        left, extended, there = dict(self._left(epochs)), self._extended(epochs), self._there(epochs)
        able = [t for t in self._history.finished if t.number in there or t.number not in {*left, *extended}]
        able.sort(key=lambda trial: (self._history.rank(trial), trial.number))
        chosen, others = ([t for t in part if t.number not in there] for part in (able[:top], able[len(able[:top]) :]))
        left |= {trial.number: f"not among the best {top}" for trial in others}
        return sorted(chosen, key=lambda trial: trial.number), dict(sorted(left.items()))

    def _there(self, epochs: int) -> set[int]:
        """Return the numbers of the trials that others extend to `epochs`: a call again takes no more than `top`."""
        trials = self._history.trials
        return {t.parent[0] for t in trials if t.extends and t.parent is not None and t.epochs >= epochs}

    def _extended(self, epochs: int) -> set[int]:
        """Return the numbers of the trials that others extend, and of those that have come to `epochs`."""
        trials = self._history.trials
        parents = {trial.parent[0] for trial in trials if trial.extends and trial.parent is not None}
        return parents | {t.number for t in trials if t.status == "DONE" and t.epochs >= epochs}

    def _left(self, epochs: int) -> Iterator[tuple[int, str]]:
        extended = self._extended(epochs)
        for trial in self._history.finished:
            reason = "" if trial.number in extended else self._reason(trial, epochs)
            if reason:
                yield trial.number, reason

    def _reason(self, trial: Trial, epochs: int) -> str:
        """Return the reason why an ended trial cannot be trained on to `epochs`; empty where it can."""
        if trial.status != "DONE":
            return f"{trial.status}, {trial.reason}"
        origin = origin_state(self._from(trial), self._history.trials, self.ledger.states.epochs)
        if origin is None or origin[1] not in self.ledger.states.epochs(origin[0]):
            return NOT_KEPT
        trainer = self.trainer.with_epochs(trial.epochs)  # the study's may be longer by now
        return trainer.finished(self.job(trial), self.ledger.states.get(*origin), epochs)

    def _from(self, trial: Trial) -> Trial:
        """Return a trial that would extend this one."""
        return Trial(len(self._history), trial.config, parent=(trial.number, trial.epochs), extends=True)


def _refusal(epochs: int, left: Mapping[int, str]) -> str:
    reasons = "; ".join(left_lines(left)) or "there is none that has ended"
    return (
        f"extend: no trial can be trained on to epoch {epochs} ({reasons}). Trials go on where nothing in their"
        f" training depends on their full length; else start a study of epochs={epochs} in another folder."
    )


def check_epochs(epochs: Any, history: History) -> None:
    """Raise ValueError unless a study can be, or was, extended to so many epochs."""
    now = history.epochs
    if epochs <= now and epochs not in history.lengths[1:]:
        raise ValueError(f"extend: epochs needs to be more than the {plural(now, 'epoch')} of a trial, got {epochs}.")
