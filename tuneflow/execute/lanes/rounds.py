"""Rounds: the folds and replicas of a trial, trained as lanes of their own, reported together epoch by epoch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from tuneflow.execute.executor import Ended, Event, Reported
from tuneflow.history.trial import Slice
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.repeated import Repeated, Repetition, joined, repetitions_of

Submission = tuple[Slice, TrainerProtocol, Job, TrainState | None]


@dataclass(eq=False)
class Part:
    """One repetition under way.

    Attributes:
        job: its own.
        start: the state to start from; None for a new one.
        so_far: its last state and metrics that a report of the trial has; None before there are any.
        ahead: its reports that none has yet.
        end: how it ended, after those.
    """

    job: Job
    start: TrainState | None
    so_far: Repetition | None
    ahead: deque[Reported] = field(default_factory=deque)
    end: Ended | None = None

    @property
    def done(self) -> bool:
        return self.so_far is not None and self.so_far.done

    @property
    def ready(self) -> bool:
        """True if it can take part in the next report."""
        return bool(self.done or self.ahead or self.end)


class Rounds:
    """A slice of a Repeated, in parts that are trained apart.

    Its events are those of the trainer's `advance`: a report when every repetition has trained the epoch or has ended
    before, and one end.

    Args:
        work: the slice.
        trainer: repeats the job.
        job: what is trained.
        state: where to start; None for a new trial.
    """

    def __init__(self, work: Slice, trainer: Repeated, job: Job, state: TrainState | None) -> None:
        self._work, self._trainer, self._epoch = work, trainer, work.start
        jobs = trainer.jobs(job)
        before: Sequence[Repetition | None] = [None] * len(jobs) if state is None else repetitions_of(state)
        self.parts = [
            Part(each, None if so_far is None else so_far.state, so_far)
            for each, so_far in zip(jobs, before, strict=True)
        ]

    def take(self, index: int, event: Event) -> list[Event]:
        """Record an event of a part; return the events of the trial that it makes complete."""
        part = self.parts[index]
        if isinstance(event, Reported):
            part.ahead.append(event)
        else:
            part.end = event
        return list(self._complete())

    def _complete(self) -> Iterator[Event]:
        while self._epoch < self._work.until and all(part.ready for part in self.parts):
            yield from self._round()

    def _round(self) -> Iterator[Event]:
        """Yield the report of the next epoch, or the end of the trial where there is none."""
        self._epoch += 1
        reason, seconds = "", 0.0
        for part in self.parts:
            if part.ahead:
                event = part.ahead.popleft()
                part.so_far = part.so_far or Repetition(event.state)
                part.so_far.take(event.state, event.report)
                seconds += event.report.seconds
            elif part.end is not None and not part.done:
                if part.end.status != "STOPPED":
                    yield self._over(_labeled(part.end, self._trainer.label(part.job)))
                    return
                part.so_far = part.so_far or Repetition(self._trainer.single.init(part.job))
                part.so_far.done, reason = True, reason or part.end.reason
        so_far = [part.so_far for part in self.parts if part.so_far is not None]
        if all(repetition.done for repetition in so_far):
            yield self._over(Ended(self._work.trial, "STOPPED", reason))
            return
        report = self._trainer.report(self._epoch, so_far, seconds)
        yield Reported(self._work.trial, report, joined(self._epoch, so_far))
        if self._epoch == self._work.until:
            yield Ended(self._work.trial, "DONE")

    def _over(self, end: Ended) -> Ended:
        self._epoch = self._work.until
        return replace(end, trial=self._work.trial)


def _labeled(end: Ended, label: str) -> Ended:
    """Return the end of a part with its label where the trainer's own loop puts it."""
    if end.status == "DIVERGED":
        return replace(end, reason=f"{end.reason} {label}")
    return replace(end, detail=f"{end.detail}{label}\n")


class RepeatedSlices:
    """The slices of trainers that repeat their jobs, each in parts with numbers below 0."""

    def __init__(self) -> None:
        self._rounds: dict[int, Rounds] = {}
        self._trials: dict[int, tuple[int, int]] = {}  # trial and index of each part
        self._numbers = count(-1, -1)

    def split(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> list[Submission]:
        """Return what is to be trained: the parts of a slice, or the slice itself where it has none."""
        if len(trainer.jobs(job)) == 1 or trainer.alone():
            return [(work, trainer, job, state)]
        repeated: Any = trainer
        rounds = self._rounds[work.trial] = Rounds(work, repeated, job, state)
        parts = []
        for index, part in enumerate(rounds.parts):
            if not part.done:
                number, start = next(self._numbers), 0 if part.start is None else part.start.epoch
                self._trials[number] = work.trial, index
                parts.append((Slice(number, start, work.until), trainer.single, part.job, part.start))
        return parts

    def gather(self, events: list[Event], stop: Callable[[int], None]) -> list[Event]:
        """Return the events of whole trials that these make complete.

        Args:
            events: of parts and of others, which stay as they are.
            stop: called with the number of each part that is left when its trial has ended.
        """
        gathered: list[Event] = []
        for event in events:
            if event.trial >= 0:
                gathered.append(event)
            elif event.trial in self._trials:  # else of a part whose trial has ended
                gathered += self._taken(event, stop)
        return gathered

    def _taken(self, event: Event, stop: Callable[[int], None]) -> list[Event]:
        trial, index = self._trials[event.trial]
        if isinstance(event, Ended):
            del self._trials[event.trial]
        complete = self._rounds[trial].take(index, event)
        if complete and isinstance(complete[-1], Ended):
            for part in self.forget(trial):
                stop(part)
        return complete

    def forget(self, trial: int) -> list[int]:
        """Forget a trial; return the numbers of its parts, or its own where it has none."""
        if self._rounds.pop(trial, None) is None:
            return [trial]
        parts = [number for number, (of, _) in self._trials.items() if of == trial]
        for number in parts:
            del self._trials[number]
        return parts
