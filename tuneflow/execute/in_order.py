"""Order: an executor that tells what was trained in an order in which speed has no part."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.trial import Slice
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

AHEAD = 8  # epochs that a trial may be trained beyond those it has told of; their states are held in memory


@dataclass
class _Turn:
    """A slice that is under way, as far as those who decide know.

    Attributes:
        told: the last epoch that was told of.
        state: as far as it is trained; None at the start.
        held: what is not told yet.
        training: the executor has it.
        over: its end is among what is held.
    """

    work: Slice
    trainer: TrainerProtocol
    job: Job
    told: int
    state: TrainState | None
    held: deque[Event] = field(default_factory=deque)
    training: bool = False
    over: bool = False

    @property
    def trained(self) -> int:
        return 0 if self.state is None else self.state.epoch

    @property
    def behind(self) -> bool:
        return not self.over and self.trained < self.told

    def may_train(self, ahead: int) -> bool:
        wanted = self.trained < self.work.until or self.trained <= self.told
        return wanted and not self.training and not self.over and self.trained - self.told < ahead


class OrderedExecutor:
    """`executor`, as if it trained `lag` slices at once, each epoch of each taking equally long.

    Slices take turns in the order in which they were submitted: each `wait` tells of one epoch of one slice, which is
    then the last to be next. So the n-th epoch is settled when exactly the epochs 0 to n - lag are known, whatever else
    is trained already, and what is decided on does not depend on how many slices are really trained at once and how
    fast. Those are trained first whose turn comes first, at most AHEAD epochs before it; where there are more
    slices than can be trained at once, one.

    A slice may start from a state before its start, where a later one was lost. Its epochs up to the start are told of
    as they come, out of turn, and nobody else's meanwhile.

    Args:
        executor: where the slices are trained, in pieces.
        lag: how many slices it takes.
        note: called with [trial, until] of each slice, the next one first, whenever that has changed.
    """

    def __init__(self, executor: Executor, lag: int, note: Callable[[list[list[int]]], None]) -> None:
        self._executor, self._lag, self._note = executor, lag, note
        self._turns: list[_Turn] = []  # the next one first

    @property
    def free(self) -> int:
        return self._lag - len(self._turns)

    @property
    def busy(self) -> int:
        return len(self._turns)

    @property
    def behind(self) -> bool:
        """Whether epochs that were told of before are being trained again."""
        return any(turn.behind for turn in self._turns)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        self._turns.append(_Turn(work, trainer, job, work.start, state))
        self._write()

    def wait(self) -> list[Event]:
        """As Executor.wait: the next epoch in turn, or those that are trained again."""
        while self._turns:
            again = [turn.held.popleft() for turn in self._turns if _is_again(turn)]
            if again:
                return again
            if self._turns[0].held and not self.behind:
                return self._tell()
            self._train()
            for event in self._executor.wait():
                self._hold(event)
        return []

    def stop(self, trial: int) -> None:
        for turn in [turn for turn in self._turns if turn.work.trial == trial]:
            if turn.training:
                self._executor.stop(trial)
            self._turns.remove(turn)
            self._write()

    def close(self) -> None:
        self._executor.close()
        self._turns.clear()

    def _train(self) -> None:
        """Give the executor what it can take, that first whose turn comes first."""
        fits = len(self._turns) <= self._executor.free + self._executor.busy
        ahead = AHEAD if fits else 1
        while self._executor.free:
            able = [turn for turn in self._turns if turn.may_train(ahead)]
            if not able:
                return
            turn = min(able, key=lambda turn: turn.trained - turn.told)
            piece = Slice(turn.work.trial, turn.trained, min(turn.work.until, turn.told + ahead))
            self._executor.submit(piece, turn.trainer, turn.job, turn.state)
            turn.training = True

    def _hold(self, event: Event) -> None:
        turn = next(turn for turn in self._turns if turn.work.trial == event.trial)
        if isinstance(event, Reported):
            turn.state = event.state
            turn.held.append(event)
            return
        turn.training = False
        if event.status != "DONE":  # else it is the end of a piece
            turn.over = True
            turn.held.append(event)

    def _tell(self) -> list[Event]:
        turn = self._turns.pop(0)
        events = [turn.held.popleft()]
        if isinstance(events[0], Reported):
            turn.told = events[0].report.epoch
            if turn.told < turn.work.until:
                self._turns.append(turn)
            else:
                events.append(Ended(turn.work.trial, "DONE"))
        self._write()
        return events

    def _write(self) -> None:
        self._note([[turn.work.trial, turn.work.until] for turn in self._turns])


def _is_again(turn: _Turn) -> bool:
    first = turn.held[0] if turn.held else None
    return isinstance(first, Reported) and first.report.epoch <= turn.told
