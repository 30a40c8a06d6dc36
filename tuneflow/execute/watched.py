"""WatchedExecutor: an executor of the user's, whose events are checked, and that may not spin."""

import time

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.trial import Slice
from tuneflow.signature import name_of
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

WAITS = 1000  # calls of `wait` in a row that return nothing
SECONDS = 1.0  # that so many take at least, where `wait` blocks


class WatchedExecutor:
    """Wraps an executor: events that break the rules, and waiting that never ends, are errors.

    Args:
        executor: has the six verbs of `Executor`.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor, self._name = executor, name_of(type(executor))
        self._reached: dict[int, int] = {}  # the last epoch of each slice under way
        self._stopped: set[int] = set()  # trials of which an event may still be on its way
        self._empty, self._seconds = 0, 0.0  # calls of `wait` that returned nothing, and their seconds

    @property
    def free(self) -> int:
        return self._executor.free

    @property
    def busy(self) -> int:
        return self._executor.busy

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        self._executor.submit(work, trainer, job, state)
        self._reached[work.trial] = 0 if state is None else state.epoch
        self._stopped.discard(work.trial)

    def wait(self) -> list[Event]:
        """Block until there are events, and return them.

        Raises:
            StudyError: it returns nothing again and again, or what is no event of a slice under way.
        """
        started = time.perf_counter()
        events = self._executor.wait()
        if not isinstance(events, list | tuple):
            raise StudyError(f"{self._name}.wait() needs to return a list of events, got {events!r}.")
        if events:
            self._empty, self._seconds = 0, 0.0
        elif self._executor.busy:
            self._count(time.perf_counter() - started)
        for event in events:
            self._check(event)
        return [event for event in events if event.trial not in self._stopped]

    def stop(self, trial: int) -> None:
        self._executor.stop(trial)
        self._reached.pop(trial, None)
        self._stopped.add(trial)

    def close(self) -> None:
        self._reached.clear()
        self._executor.close()

    def _count(self, seconds: float) -> None:
        self._empty += 1
        self._seconds += seconds
        if self._empty < WAITS:
            return
        if self._seconds < SECONDS:
            raise StudyError(
                f"{self._name}.wait() returned no event {WAITS} times in {self._seconds:.2f} s, while"
                f" {self._executor.busy} of its slices are under way; it needs to block until there is one."
            )
        self._empty, self._seconds = 0, 0.0

    def _check(self, event: Event) -> None:
        if not isinstance(event, Reported | Ended):
            raise StudyError(f"{self._name}.wait() needs to return events, Reported or Ended, got {event!r}.")
        if event.trial in self._stopped:
            return
        if event.trial not in self._reached:
            raise StudyError(f"{self._name}.wait() returned {_short(event)}, which is not under way.")
        if isinstance(event, Ended):
            del self._reached[event.trial]
            return
        wanted = self._reached[event.trial] + 1
        if event.report.epoch != wanted:
            raise StudyError(f"{self._name}.wait() returned {_short(event)}, whose next one is {wanted}.")
        self._reached[event.trial] = wanted


def _short(event: Event) -> str:
    what = f"epoch {event.report.epoch}" if isinstance(event, Reported) else f"the end as {event.status}"
    return f"{what} of trial {event.trial}"
