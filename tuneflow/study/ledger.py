"""Ledger: history, store and states, kept in step. It knows what happened, and nothing of who decides."""

import bisect
import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tuneflow.errors import StoreError, StudyError
from tuneflow.history.history import History
from tuneflow.history.trial import Report, Status, Trial, with_reports, with_status
from tuneflow.store.checkpoints import States
from tuneflow.store.store import Store
from tuneflow.train.job import TrainState

log = logging.getLogger("tuneflow")

CHOICE = "confirmed"  # the key of what was confirmed
TURNS = "turns"  # the key of the order of what is under way
TRIES = 3  # how often in a row a trial's process may die without an epoch in between


class Ledger:
    """Writes down what happens to trials, in an order that a kill at any moment leaves whole.

    Args:
        keep: of how many of the best trials the state is kept; with several objectives, of the front.
        checkpoint: seconds between writes of live trials' states to the disk.
    """

    def __init__(self, store: Store, states: States, history: History, keep: int, checkpoint: float) -> None:
        self.store, self.states, self.history = store, states, history
        self._keep, self._checkpoint = keep, checkpoint
        self._kept: list[tuple[tuple[float, float], int]] = []  # (rank, number) of the best trials
        self._mine: set[int] = set()
        self._dropped: list[int] = []  # trials whose states go once the commit is made
        self._flushed = time.monotonic()
        self._wanted: set[tuple[int, int]] | None = (
            None  # states that the scheduler may still need; None before it said
        )
        self._chosen = (store.recall(CHOICE) or {}).get("number")  # the trial that was confirmed
        self._parents: dict[int, tuple[int, int]] = {}  # of forks that have not ended, the state they start from

    # Other processes.

    def sync(self) -> None:
        """Learn what other processes wrote."""
        for trial in self.store.changes():
            if trial.number in self._mine:
                continue
            if trial.config:
                trial = replace(trial, config=self.history.space.cast(trial.config, where=False))
            if not trial.ended:
                trial = with_reports(trial, trial.reports, self.history.objective)
            self.history.record(trial)
            if trial.ended:
                self._parents.pop(trial.number, None)
                self._admit(trial)
            elif trial.parent is not None:
                self._parents[trial.number] = trial.parent
        self._drop()

    def recover(self) -> None:
        """Free the trials of processes that died; what died too often without progress has failed."""
        freed = self.store.recover()
        self.sync()
        turns = self.turns()
        for number, tries in freed:
            if turns and number != turns[0][0]:
                continue  # it was trained, if at all, ahead of its turn
            if tries >= TRIES and self._known(number) and self.store.take(number):
                self._own(number)
                self.end(number, "FAILED", f"its process died {tries} times without finishing an epoch")
        for _, number in self._kept:
            self._keep_spoken(self.history.trials[number])
        self.commit()

    def _known(self, number: int) -> bool:
        return number < len(self.history) and self.history.trials[number].status != "CLAIMED"

    # Slices that take turns; see Ordered.

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other process runs the study.

        Raises:
            StudyError: one does.
        """
        if not self.store.hold():
            raise StudyError("run: another process runs this study; with lag= there can be one at a time.")
        try:
            yield
        finally:
            self.store.let_go()

    def note(self, turns: list[list[int]]) -> None:
        """Keep [trial, until] of the slices that are under way, in this order, with what is written next."""
        self.store.note(TURNS, {"turns": turns})

    def turns(self) -> list[tuple[int, int]]:
        """(trial, until) of the slices that were under way when a run ended or died, in order."""
        kept = (self.store.recall(TURNS) or {"turns": []})["turns"]
        return [(n, until) for n, until in kept if self._known(n) and self.history.trials[n].status == "PAUSED"]

    def last(self, number: int) -> TrainState | None:
        """Where a trial goes on from, as `state`; an earlier state of it where that one is lost."""
        trial = self.history.trials[number]
        return self._state_of(self._standing(trial) if trial.reports else trial)

    def retake(self, number: int) -> None:
        """Make a paused trial one's own, with the reports of epochs whose state is lost, too.

        Raises:
            StudyError: it belongs to another process.
        """
        if not self.store.take(number):
            raise StudyError(f"trial {number} belongs to another process; with lag= there can be one at a time.")
        self._own(number)
        self._put(with_status(self.history.trials[number], "RUNNING"))

    def again(self, number: int, state: TrainState) -> None:
        """An epoch of a trial that was reported before has been trained once more; its state is here again."""
        trial = self.history.trials[number]
        upto = [report for report in trial.reports if report.epoch <= state.epoch]
        self.store.report(number, upto[-1])  # the process that trains it gets on
        self._keep_state(with_reports(trial, upto, self.history.objective), state)

    # A trial's life.

    def claim(self, most: float) -> int | None:
        number = self.store.claim(most)
        if number is not None:
            self._mine.add(number)
        return number

    def release(self, number: int) -> None:
        self.store.release(number)
        self._mine.discard(number)

    def start(self, trial: Trial) -> None:
        """A claimed number has become a trial; the state that a fork starts from outlives a kill."""
        if trial.parent is not None:
            self._parents[trial.number] = trial.parent
            self._flush(trial.parent[0])
        self._put(trial)

    def take(self, number: int) -> Trial | None:
        """Make a paused trial one's own, standing where its last usable state is; None when somebody was faster."""
        if not self.store.take(number):
            return None
        self._own(number)
        trial = self._usable(self.history.trials[number])
        self._put(with_status(trial, "RUNNING"))
        return self.history.trials[number]

    def report(self, number: int, report: Report, state: TrainState | None) -> Trial:
        trial = self.history.trials[number]
        trial = with_reports(trial, (*trial.reports, report), self.history.objective)
        self.history.record(trial)
        self.store.report(number, report)
        if state is not None:
            self._keep_state(trial, state)
        return trial

    def pause(self, number: int, reason: str = "") -> None:
        try:
            self._flush(number)
        finally:
            self._put(with_status(self.history.trials[number], "PAUSED", reason))
            self._mine.discard(number)

    def end(self, number: int, status: Status, reason: str = "", detail: str = "", seconds: float = 0.0) -> Trial:
        trial = with_status(self.history.trials[number], status, reason, detail, seconds)
        wanted = self._worth(trial) or self._wanted_of(number)
        kept = self.states.hold_values(number) and wanted
        if kept:  # first, so that a trial whose state cannot be written has not ended
            self._keep_spoken(trial)
            self._flush(number)
        self._put(trial)
        self._mine.discard(number)
        parent = self._parents.pop(number, None)
        self._admit(trial)
        if parent is not None:
            self._forget({parent[0]})
        if not kept and number not in self._dropped:
            self.states.keep(number, ())
        return trial

    def commit(self) -> list[int]:
        """Make everything written so far last. Returns one's own trials that another process has taken over."""
        lost = self.store.commit()
        for number in lost:
            log.warning("trial %d was taken over by another process; what was trained here of it is dropped", number)
            self._mine.discard(number)
        self._drop()
        if time.monotonic() - self._flushed > self._checkpoint:
            self.flush()
        self.states.sweep()
        return lost

    def flush(self) -> None:
        """Write the states of one's own live trials to the disk."""
        for number in self._mine:
            self._flush(number)
        self._flushed = time.monotonic()

    def running(self) -> list[int]:
        """One's own trials that are running."""
        return sorted(number for number in self._mine if self.history.trials[number].status == "RUNNING")

    def want(self, wanted: Iterable[tuple[int, int]]) -> None:
        """The (trial, epoch) states that a scheduler may still need."""
        before, self._wanted = self._wanted or set(), set(wanted)
        self._forget({number for number, _ in before - self._wanted})

    def state(self, number: int) -> TrainState | None:
        """Where a trial goes on from: None for its start."""
        return self._state_of(self.history.trials[number])

    def choose(self, number: int, state: TrainState | None) -> None:
        """Have the state that speaks for an ended trial kept, beside those of the best; `state` is it where it went."""
        before, self._chosen = self._chosen, number
        if state is not None:
            self.states.clean(number)
            with self._counted():
                self.states.put(number, state)
        self._keep_spoken(self.history.trials[number])
        self._flush(number)
        if before is not None and before != number:
            self._forget({before})

    # Inside.

    def _keep_state(self, trial: Trial, state: TrainState) -> None:
        """Take over the state after a trial's last epoch."""
        if state.values or state.epoch < self.history.epochs:
            with self._counted():
                self.states.put(trial.number, state)
            self.states.keep(trial.number, self._needed(trial))

    def _state_of(self, trial: Trial) -> TrainState | None:
        if trial.parent is not None and trial.epochs == trial.parent[1]:
            return self.states.get(*trial.parent)
        return self.states.get(trial.number, trial.epochs) if trial.epochs else None

    def _own(self, number: int) -> None:
        self._mine.add(number)
        self.states.clean(number)

    def _flush(self, number: int) -> None:
        with self._counted():
            self.states.flush(number)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A full disk within the block is told with the number of trials that are safe."""
        try:
            yield
        except StoreError as error:
            safe = f"disk full; {self.history.ended} trials safe."
            raise StoreError(str(error).replace("disk full.", safe)) from None

    def _worth(self, trial: Trial) -> bool:
        """Whether the state of a trial that ends is one of those to be kept, as far as is known before."""
        if self.history.objective.several:
            return True
        rank = self.history.rank(trial)
        return math.isfinite(rank[1]) and (len(self._kept) < self._keep or (rank, trial.number) < self._kept[-1])

    def _put(self, trial: Trial) -> None:
        self.store.put(trial)
        self.history.record(trial)

    def _needed(self, trial: Trial) -> set[int]:
        """Epochs of a live trial whose states are needed: the last, the one that speaks for it, and those wanted."""
        spoken = self.history.objective.pick(trial.reports)
        return self._wanted_of(trial.number) | ({trial.epochs} if spoken is None else {trial.epochs, spoken.epoch})

    def _keep_spoken(self, trial: Trial) -> None:
        """Of an ended trial's states, only that which speaks for it is needed."""
        self.states.keep(trial.number, self._wanted_of(trial.number) | self._speaking(trial))

    def _wanted_of(self, number: int) -> set[int]:
        """Epochs of a trial whose states a scheduler may still need, or a fork that has not ended; or its model."""
        chosen = self._speaking(self.history.trials[number]) if number == self._chosen else set()
        return chosen | {e for wanted, e in (*(self._wanted or ()), *self._parents.values()) if wanted == number}

    def _forget(self, numbers: set[int]) -> None:
        """States of these trials that were needed are not any more; those of the best trials stay."""
        for number in numbers - {number for _, number in self._kept}:
            trial = self.history.trials[number]
            self.states.keep(number, self._wanted_of(number) if trial.ended else self._needed(trial))

    def _usable(self, trial: Trial) -> Trial:
        """`trial` as of the last epoch whose states are all there; its reports after that are forgotten."""
        cut = self._standing(trial)
        if len(cut.reports) < len(trial.reports):
            self.store.forget(trial.number, after=cut.epochs)
        return cut

    def _standing(self, trial: Trial) -> Trial:
        """`trial` as of the last epoch whose states are all there."""
        kept, objective = self.states.epochs(trial.number), self.history.objective
        reports = list(trial.reports)
        while reports:
            cut = with_reports(trial, reports, objective)
            if kept.issuperset({cut.epochs, *self._speaking(cut)}):
                break
            reports.pop()
        return with_reports(trial, reports, objective)

    def _speaking(self, trial: Trial) -> set[int]:
        spoken = self.history.objective.pick(trial.reports)
        return {spoken.epoch} if spoken else set()

    def _admit(self, trial: Trial) -> None:
        """Enter an ended trial among the best, and note whose states are not needed any more."""
        if self.history.objective.several:
            front = {t.number for t in self.history.front}
            self._dropped += [n for n in {trial.number, *(n for _, n in self._kept)} if n not in front]
            self._kept = [((0.0, 0.0), number) for number in sorted(front)]
            return
        rank = self.history.rank(trial)
        if not math.isfinite(rank[1]):
            self._dropped.append(trial.number)
            return
        bisect.insort(self._kept, (rank, trial.number))
        self._dropped += [number for _, number in self._kept[self._keep :]]
        del self._kept[self._keep :]

    def _drop(self) -> None:
        if self._wanted is None:
            return
        for number in self._dropped:
            self.states.keep(number, self._wanted_of(number))
        self._dropped.clear()
