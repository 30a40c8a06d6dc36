"""The order of reports: as they come, or under `lag=` a fixed one that does not depend on speed."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from typing_extensions import override

from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.history import History
from tuneflow.history.trial import Slice, Trial, stamped
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

AHEAD = 8  # epochs that a trial may be trained beyond its last report; their states are held in memory

Submit = Callable[[Executor, Trial, int, TrainState | None], None]  # a trial, the epoch to train it to, its state
End = Callable[[int, str], None]  # a trial's number, its status


class Records(Protocol):
    """The part of a study's ledger that an order needs."""

    history: History

    def sync(self) -> None: ...
    def alone(self) -> AbstractContextManager[None]: ...
    def turns(self) -> list[tuple[int, int]]: ...
    def note(self, turns: list[list[int]]) -> None: ...
    def take(self, number: int) -> Trial | None: ...
    def retake(self, number: int) -> None: ...
    def state(self, number: int) -> TrainState | None: ...


class AnyOrder:
    """The order without `lag=`: reports count as they come, and several processes may run the study at once.

    Args:
        records: the study's ledger.
        submit: gives a trial to an executor.
        end: ends a trial.

    Attributes:
        decides_when_full: True if decisions are taken even while the executor takes no more slices.
    """

    decides_when_full = False

    def __init__(self, records: Records, submit: Submit, end: End) -> None:
        self._records, self._submit, self._end = records, submit, end

    @property
    def settled(self) -> bool:
        """False while decisions have to wait for epochs that are trained again."""
        return True

    def exclusive(self) -> AbstractContextManager[None]:
        """Return a context to run in, which keeps other processes out where it has to."""
        return nullcontext()

    def begin(self, executor: Executor) -> Executor:
        """Return the executor to run with; it may wrap `executor`."""
        self._executor = executor
        return executor

    def start(self, trial: Trial, until: int) -> None:
        """Train a trial that this process owns to epoch `until`."""
        self._submit(self._executor, trial, until, self._records.state(trial.number))

    def proceed(self, number: int, until: int) -> None:
        """Train a paused trial on to epoch `until`, unless another process has taken it."""
        trial = self._records.take(number)
        if trial is not None and trial.epochs < self._records.history.epochs:
            self.start(trial, until)
        elif trial is not None:  # it was interrupted between its last epoch and its end
            self._end(number, "DONE")


class FixedOrder(AnyOrder):
    """The order under `lag=`: slices take turns, and those under way when a run ended are under way in the next.

    Args:
        lag: number of slices under way.
        records, submit, end: as AnyOrder takes them.
    """

    decides_when_full = True  # as a run that goes on from here would

    def __init__(self, lag: int, records: Records, submit: Submit, end: End) -> None:
        super().__init__(records, submit, end)
        self._lag = lag

    @property
    @override
    def settled(self) -> bool:
        return not self._ordered.behind

    @override
    def exclusive(self) -> AbstractContextManager[None]:
        return self._records.alone()

    @override
    def begin(self, executor: Executor) -> Executor:
        records, history = self._records, self._records.history
        records.sync()
        for trial in [*history.paused, *history.extending]:
            if trial.epochs >= history.epochs:  # it was interrupted between its last epoch and its end
                records.retake(trial.number)
                self._end(trial.number, "DONE")
        self._executor = self._ordered = OrderedExecutor(executor, self._lag, records.note)
        under_way = [(history.trials[n], until, records.state(n)) for n, until in records.turns()]
        for trial, _, _ in under_way:
            records.retake(trial.number)
        for trial, until, state in under_way:  # after all that could fail, so that they are written together
            self._submit(self._ordered, trial, until, state)
        return self._ordered

    @override
    def proceed(self, number: int, until: int) -> None:
        trial = self._records.history.trials[number]
        if trial.status == "PAUSED":
            self.start(trial, until)  # before it is taken, so that its turn is written with the taking
            self._records.retake(number)


@dataclass
class _Turn:
    """A slice that is under way, trained up to some epoch and reported up to another.

    Attributes:
        work: the slice.
        trainer, job: as Executor.submit takes them.
        reported: the last epoch that was reported.
        state: the state after the last epoch trained; None at the start.
        held: events that are not reported yet.
        training: True while the executor has it.
        over: True if its end is among the held events.
    """

    work: Slice
    trainer: TrainerProtocol
    job: Job
    reported: int
    state: TrainState | None
    held: deque[Event] = field(default_factory=deque)
    training: bool = False
    over: bool = False

    @property
    def trained(self) -> int:
        return 0 if self.state is None else self.state.epoch

    @property
    def behind(self) -> bool:
        return not self.over and self.trained < self.reported

    @property
    def repeats(self) -> bool:
        """True if the first held event is the report of an epoch that was reported before."""
        first = self.held[0] if self.held else None
        return isinstance(first, Reported) and first.report.epoch <= self.reported

    def may_train(self, ahead: int) -> bool:
        wanted = self.trained < self.work.until or self.trained <= self.reported
        return wanted and not self.training and not self.over and self.trained - self.reported < ahead


class OrderedExecutor:
    """Wraps an executor so that reports arrive in an order that does not depend on speed.

    It is as if `lag` slices were trained at once, each epoch of each taking equally long. Slices take turns in the
    order in which they were submitted: each `wait` reports one epoch of one slice, which then goes to the end of the
    queue. So when the n-th epoch is reported, exactly the epochs 0 to n - lag are known, however many slices are really
    trained at once and however fast. Slices are trained in the order of their turns, at most AHEAD epochs before them;
    one epoch, where there are more slices than can be trained at once.

    A slice may start from a state before its start, where a later one was lost. Its epochs up to the start are reported
    as they come, out of turn, and no others meanwhile.

    Args:
        executor: where the slices are trained, in pieces.
        lag: number of slices it takes.
        note: called with [trial, until] of each slice, the next one first, whenever that has changed.
    """

    def __init__(self, executor: Executor, lag: int, note: Callable[[list[list[int]]], None]) -> None:
        self._executor, self._lag, self._note = executor, lag, note
        self._turns: list[_Turn] = []  # the next one first

    @property
    def free(self) -> int:
        """Number of slices that it can still take."""
        return self._lag - len(self._turns)

    @property
    def busy(self) -> int:
        """Number of slices under way."""
        return len(self._turns)

    @property
    def behind(self) -> bool:
        """True while epochs that were reported before are trained again."""
        return any(turn.behind for turn in self._turns)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Queue a slice, as Executor.submit; `state` may be an earlier one than that of its start."""
        self._turns.append(_Turn(work, trainer, job, work.start, state))
        self._write()

    def wait(self) -> list[Event]:
        """Return the next epoch in turn, or those that were trained again."""
        while self._turns:
            again = [turn.held.popleft() for turn in self._turns if turn.repeats]
            if again:
                return again
            if self._turns[0].held and not self.behind:
                return self._next()
            self._train()
            for event in self._executor.wait():
                self._hold(event)
        return []

    def stop(self, trial: int) -> None:
        """Drop the trial's slice, as Executor.stop."""
        for turn in [turn for turn in self._turns if turn.work.trial == trial]:
            if turn.training:
                self._executor.stop(trial)
            self._turns.remove(turn)
            self._write()

    def close(self) -> None:
        """Drop every slice, as Executor.close."""
        self._executor.close()
        self._turns.clear()

    def _train(self) -> None:
        """Give the executor as many slices as it takes, in the order of their turns."""
        fits = len(self._turns) <= self._executor.free + self._executor.busy
        ahead = AHEAD if fits else 1
        while self._executor.free:
            able = [turn for turn in self._turns if turn.may_train(ahead)]
            if not able:
                return
            turn = min(able, key=lambda turn: turn.trained - turn.reported)
            piece = Slice(turn.work.trial, turn.trained, min(turn.work.until, turn.reported + ahead))
            self._executor.submit(piece, turn.trainer, turn.job, turn.state)
            turn.training = True

    def _hold(self, event: Event) -> None:
        turn = next(turn for turn in self._turns if turn.work.trial == event.trial)
        if isinstance(event, Reported):
            turn.state = event.state
            turn.held.append(replace(event, report=stamped(event.report)))  # now, and not at its turn
            return
        turn.training = False
        if event.status != "DONE":  # else it is the end of a piece
            turn.over = True
            turn.held.append(event)

    def _next(self) -> list[Event]:
        """Return the first slice's next event, and move the slice to the end of the queue."""
        turn = self._turns.pop(0)
        events = [turn.held.popleft()]
        if isinstance(events[0], Reported):
            turn.reported = events[0].report.epoch
            if turn.reported < turn.work.until:
                self._turns.append(turn)
            else:
                events.append(Ended(turn.work.trial, "DONE"))
        self._write()
        return events

    def _write(self) -> None:
        self._note([[turn.work.trial, turn.work.until] for turn in self._turns])
