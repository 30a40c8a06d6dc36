"""Ledger: the events of a study, recorded in history, store and states in step."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tuneflow.errors import StoreError, StudyError
from tuneflow.history.history import History
from tuneflow.history.trial import Report, Status, Trial, stamped, with_reports, with_status
from tuneflow.space.search_space import Config
from tuneflow.store import sightings
from tuneflow.store.checkpoints import States
from tuneflow.store.folder import Keep
from tuneflow.store.store import Store
from tuneflow.study.absent_owners import wait_for_hold
from tuneflow.study.growth import FACTS, Growth
from tuneflow.study.retention import (
    Kept,
    admitted,
    backed_by_states,
    origin_state,
    selected_epochs,
    wanted_epochs,
    would_be_kept,
)
from tuneflow.train.job import TrainState

log = logging.getLogger("tuneflow")

CHOICE = "confirmed"  # the key of what was confirmed
TURNS = "turns"  # the key of the order of what is under way
TRIES = 3  # how often in a row a trial's process may die without an epoch in between


class Ledger:
    """Records what happens to trials, in an order that a kill at any moment leaves whole.

    Args:
        store: where trials and reports are kept.
        states: where training states are kept.
        history: the study's, brought up to date by this object only.
        keep: number of the best trials whose states are kept, or "all"; with several objectives the front is kept.
        checkpoint: seconds between writes of live trials' states to the disk.
        elsewhere: True where trials are trained elsewhere, and their states kept there: so no death costs an epoch.
        models: False where no trial leaves a model: then an empty last state is not kept.
    """

    def __init__(
        self,
        store: Store,
        states: States,
        history: History,
        keep: Keep,
        checkpoint: float,
        elsewhere: bool = False,
        models: bool = True,
    ) -> None:
        self.store, self.states, self.history, self._elsewhere = store, states, history, elsewhere
        self._keep, self._checkpoint, self._models = keep, checkpoint, models
        self._kept: Kept = []
        self._mine: set[int] = set()  # trials that this process owns
        self._lost: list[int] = []  # trials of this process that another one has ended
        self._dropped: set[int] = set()  # trials whose states go after the next commit
        self._flushed = self._looked = time.monotonic()
        self._wanted: set[tuple[int, int]] | None = None  # states that the scheduler may need; None before it was asked
        self._chosen = (store.recall(CHOICE) or {}).get("number")  # the trial that was confirmed
        self.growth = Growth()  # of the space, in which earlier trials are read
        self._outgrown = ""  # why this study cannot go on: a trial of a larger space, which another process has
        self._parents: dict[int, tuple[int, int]] = {}  # of forks that have not ended, the state they start from

    # Other processes.

    def sync(self) -> None:
        """Read what other processes wrote.

        Raises:
            StudyError: the study's space is larger by now, and a trial lies outside of this one.
        """
        if self._outgrown:
            raise StudyError(self._outgrown)
        for trial in self.store.changes():
            if trial.number in self._mine:
                if not trial.ended:
                    continue
                self._mine.discard(trial.number)
                self._lost.append(trial.number)
            if trial.config and repr(config := self._read(trial)) != repr(trial.config):
                trial = replace(trial, config=config)
            if not trial.ended:
                trial = with_reports(trial, trial.reports, self.history.objective)
            self.history.record(trial)
            if trial.ended:
                self._parents.pop(trial.number, None)
                self._admit(trial)
            else:
                self._hold_origin(trial)
        self._drop()

    def recover(self) -> None:
        """Free the trials of processes that died; a trial whose process died too often without progress has failed."""
        self.look()
        for _, number in self._kept:
            self._keep_needed(self.history.trials[number])
        self.commit()

    def look_again(self) -> bool:
        """Free the trials of processes that have died meanwhile, once in a while; True where there are any."""
        due = time.monotonic() - self._looked > sightings.BEAT
        return due and self.look()

    def look(self) -> bool:
        """Free the trials of processes that died; True where there are any."""
        self._looked = time.monotonic()
        freed = self.store.recover()
        self.sync()
        turns = self.turns()
        for number, tries in freed:
            if turns and number != turns[0][0]:
                continue  # it was trained, if at all, ahead of its turn
            if tries >= TRIES and not self._elsewhere and self._known(number) and self.store.take(number):
                self._own(number)
                self.end(number, "FAILED", f"its process died {tries} times without finishing an epoch")
        return bool(freed)

    def _known(self, number: int) -> bool:
        return number < len(self.history) and self.history.trials[number].status != "CLAIMED"

    # Slices that take turns; see FixedOrder.

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from running the study within the block.

        Raises:
            StudyError: one does. One on another machine that may be dead is waited for until that is known.
        """
        wait_for_hold(self.store)
        self.look()  # once nobody else can change anything
        try:
            yield
        finally:
            self.store.let_go()

    def note(self, turns: list[list[int]]) -> None:
        """Record [trial, until] of the slices under way, in this order, with the next commit."""
        self.store.note(TURNS, {"turns": turns})

    def turns(self) -> list[tuple[int, int]]:
        """Return (trial, until) of the slices that were under way when a run ended or died, in order."""
        turns = (self.store.recall(TURNS) or {"turns": []})["turns"]
        return [(n, until) for n, until in turns if self._known(n) and self.history.trials[n].status == "PAUSED"]

    def state(self, number: int) -> TrainState | None:
        """Return the state that a trial goes on from, an earlier one where that is lost; None for its start."""
        trial = self.history.trials[number]
        return self._state_of(self._backed(trial) if trial.reports else trial)

    def retake(self, number: int) -> None:
        """Take a paused trial, with the reports of epochs whose state is lost, too.

        Raises:
            StudyError: it belongs to another process.
        """
        if not self.store.take(number):
            raise StudyError(f"trial {number} belongs to another process; with lag= only one may run at a time.")
        self._own(number)
        self._put(with_status(self.history.trials[number], "RUNNING"))

    def again(self, number: int, state: TrainState) -> None:
        """Record the state of an epoch that was reported before and has been trained once more."""
        trial = self.history.trials[number]
        upto = [report for report in trial.reports if report.epoch <= state.epoch]
        if not upto:
            return  # an epoch of the trial that it extends
        self.store.report(number, upto[-1])  # the process that trains it gets on
        self._keep_state(with_reports(trial, upto, self.history.objective), state)

    # A trial's life.

    def checked(self, queued: Config) -> Config:
        """Return a configuration from the queue, which may be older than the space.

        Raises:
            ValueError: it is not in the space, or excluded.
        """
        space = self.history.space
        return space.cast(self.growth.completed(space, queued))

    def claim(self, limit: float) -> int | None:
        """Take the next free number below `limit`; None where there is none."""
        number = self.store.claim(limit)
        if number is not None:
            self._mine.add(number)
        return number

    def release(self, number: int) -> None:
        """Give back a claimed number for which there is no trial."""
        self.store.release(number)
        self._mine.discard(number)

    def start(self, trial: Trial) -> Trial:
        """Record the trial of a claimed number, and return it; the state that a fork starts from is written first."""
        if (origin := self._hold_origin(trial)) is not None:
            self._flush(origin[0])
        return self._put(trial)

    def enter(self, trial: Trial, once: bool) -> bool:
        """Record the trial of a claimed number; False where `once` and another process has its configuration.

        Then the history has the other one.
        """
        if not self.store.enter(trial, once):
            self.sync()
            return False
        self.history.record(trial)
        return True

    def _hold_origin(self, trial: Trial) -> tuple[int, int] | None:
        """Keep the state that a fork starts from until it has ended; return its trial and epoch."""
        origin = origin_state(trial, self.history.trials, self.states.epochs)
        if origin is not None:
            self._parents[trial.number] = origin
        return origin

    def owns(self, number: int) -> bool:
        """True for a trial that belongs to this process, and has not ended."""
        return number in self._mine

    def assign(self, number: int, until: int | None) -> Trial:
        """Record the epoch to which a trial of this process is to be trained elsewhere, None for an open end."""
        return self._put(replace(self.history.trials[number], until=until))

    def seize(self, number: int) -> bool:
        """Take a running trial from another process, to end it; False where it does not run any more."""
        seized = self.store.seize(number)
        self.sync()
        if seized:
            self._own(number)
        return seized

    def take(self, number: int, backed: bool = True) -> Trial | None:
        """Take a paused trial; None when another process was faster.

        Args:
            number: the trial's.
            backed: as of its last usable state, with the later reports dropped; False keeps them all, where its states
                are elsewhere.
        """
        if not self.store.take(number):
            return None
        self._own(number)
        trial = self.history.trials[number]
        cut = self._backed(trial) if backed else trial
        if len(cut.reports) < len(trial.reports):
            self.store.forget(number, after=cut.epochs)
        return self._put(with_status(cut, "RUNNING"))

    def report(self, number: int, report: Report, state: TrainState | None) -> Trial:
        """Record an epoch of a trial, and the state after it."""
        trial = self.history.trials[number]
        report = stamped(report)
        trial = with_reports(trial, (*trial.reports, report), self.history.objective)
        self.history.record(trial)
        self.store.report(number, report)
        if state is not None:
            self._keep_state(trial, state)
        return trial

    def pause(self, number: int, reason: str = "") -> None:
        """Record that a trial waits for a decision; its states are written."""
        try:
            self._flush(number)
        finally:
            self._put(with_status(self.history.trials[number], "PAUSED", reason))
            self._mine.discard(number)

    def end(self, number: int, status: Status, reason: str = "", detail: str = "", seconds: float = 0.0) -> Trial:
        """Record the end of a trial, `seconds` after its last report; its state is kept or dropped."""
        trial = with_status(self.history.trials[number], status, reason, detail, seconds)
        wanted = would_be_kept(trial, self.history, self._kept, self._keep) or self._wanted_of(trial)
        holds = bool(self.states.epochs(number)) if self._models else self.states.hold_values(number)
        kept = holds and wanted
        if kept:  # first, so that a trial whose state cannot be written has not ended
            self._keep_needed(trial)
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
        """Write everything recorded; return this process's trials that another one has taken over.

        Every `checkpoint` seconds the states of this process's live trials are written, too.
        """
        ended, self._lost = self._lost, []
        lost = [*self.store.commit(), *ended]
        for number in lost:
            log.warning("trial %d was taken over by another process; its epochs trained here are dropped", number)
            self._mine.discard(number)
            self.states.leave(number)
        self._drop()
        if time.monotonic() - self._flushed > self._checkpoint:
            for number in self._mine:
                self._flush(number)
            self._flushed = time.monotonic()
        self.states.sweep()
        return lost

    def running(self) -> list[int]:
        """Return the numbers of this process's running trials."""
        return sorted(number for number in self._mine if self.history.trials[number].status == "RUNNING")

    def want(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Set the (trial, epoch) states that the scheduler may still need."""
        before, self._wanted = self._wanted or set(), set(wanted)
        self._forget({number for number, _ in before - self._wanted})

    def choose(self, number: int, state: TrainState | None) -> None:
        """Keep the model of an ended trial beside those of the best.

        Args:
            number: the trial.
            state: its state after the epoch that counts, where that is not kept any more.
        """
        before, self._chosen = self._chosen, number
        if state is not None:
            self.states.clean(number)
            with self._counted():
                self.states.put(number, state)
        self._keep_needed(self.history.trials[number])
        self._flush(number)
        if before is not None and before != number:
            self._forget({before})

    # Inside.

    def _read(self, trial: Trial) -> Config:
        """Return the configuration of a stored trial in the space of this study."""
        try:
            return self.growth.read(self.history.space, trial.config)
        except ValueError as error:
            later = Growth.of(self.store.recall(FACTS) or {}).changes[len(self.growth.changes) :]
            if not later:
                raise
            self._outgrown = (
                f"trial {trial.number} is of a larger space, which another process gave this study:"
                f" {'; '.join(later)}. Make the study again with that space; here {error}"
            )
            raise StudyError(self._outgrown) from None

    def _keep_state(self, trial: Trial, state: TrainState) -> None:
        """Hold the state after a trial's last epoch."""
        if self._models or state.values or state.epoch < self.history.epochs:
            with self._counted():
                self.states.put(trial.number, state)
            self._keep_needed(trial)

    def _state_of(self, trial: Trial) -> TrainState | None:
        if trial.parent is not None and trial.epochs == trial.parent[1]:
            origin = origin_state(trial, self.history.trials, self.states.epochs)
            return None if origin is None else self.states.get(*origin)
        return self.states.get(trial.number, trial.epochs) if trial.epochs else None

    def _own(self, number: int) -> None:
        self._mine.add(number)
        self.states.clean(number)

    def _flush(self, number: int) -> None:
        with self._counted():
            self.states.flush(number)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Add the number of trials that are safe to the error of a full disk within the block."""
        try:
            yield
        except StoreError as error:
            safe = f"disk full; {self.history.ended} trials safe."
            raise StoreError(str(error).replace("disk full.", safe)) from None

    def _put(self, trial: Trial) -> Trial:
        self.store.put(trial)
        self.history.record(trial)
        return trial

    def _wanted_of(self, trial: Trial) -> set[int]:
        wanted = (*(self._wanted or ()), *self._parents.values())
        return wanted_epochs(trial, self.history.objective, wanted, self._chosen)

    def _keep_needed(self, trial: Trial) -> None:
        """Keep of a trial's states those wanted, the one that counts, and the last where it has not ended."""
        last = set() if trial.ended else {trial.epochs}
        self.states.keep(trial.number, self._wanted_of(trial) | selected_epochs(trial, self.history.objective) | last)

    def _forget(self, numbers: set[int]) -> None:
        """Drop the states of these trials that are not needed any more; those of the best trials stay."""
        for number in numbers - {number for _, number in self._kept}:
            trial = self.history.trials[number]
            if trial.ended:
                self.states.keep(number, self._wanted_of(trial))
            else:
                self._keep_needed(trial)

    def _backed(self, trial: Trial) -> Trial:
        return backed_by_states(trial, self.states.epochs(trial.number), self.history.objective)

    def _admit(self, trial: Trial) -> None:
        """Enter an ended trial among the best, and note the trials whose states are dropped."""
        self._kept, dropped = admitted(trial, self.history, self._kept, self._keep)
        self._dropped.update(dropped)

    def _drop(self) -> None:
        if self._wanted is not None:
            self._forget(self._dropped)
            self._dropped.clear()
