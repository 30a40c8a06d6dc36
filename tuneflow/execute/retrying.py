"""RetryingExecutor: a slice that fails by an exception named in `retries=` goes on from its last reported state."""

import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tuneflow.errors import plural
from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.trial import Slice
from tuneflow.runtime.retries import OUT_OF_MEMORY
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

log = logging.getLogger("tuneflow")


@dataclass
class Retriable:
    """A slice under way, as it would be submitted again.

    Attributes:
        work: the rest of the slice.
        trainer, job: as Executor.submit takes them.
        state: the last that was reported, or the one it was submitted with.
    """

    work: Slice
    trainer: TrainerProtocol
    job: Job
    state: TrainState | None

    def reported(self, event: Reported) -> None:
        """Go on from a newly reported state."""
        self.work, self.state = replace(self.work, start=event.report.epoch), event.state


class RetryingExecutor:
    """Wraps an executor: what fails and may be tried again is submitted again, and only its last end is an event.

    Since training is a function of job and state, an attempt from the last reported state comes to the scores that one
    without a failure comes to. After an exception for want of memory it goes on in less memory, where the trainer has a
    way (`TrainerProtocol.smaller`): for the rest of the run, and with scores that differ by rounding. Retries are
    counted for each trial and class, from the executor's start on.

    It is wrapped by what orders reports, if anything does: so a retry changes the order of none.

    Args:
        executor: trains the slices.
        retries: number of retries by name of class; the first name that fits an exception counts.
    """

    def __init__(self, executor: Executor, retries: Mapping[str, int]) -> None:
        self._executor, self._retries = executor, retries
        self._under_way: dict[int, Retriable] = {}  # by trial
        self._again: deque[int] = deque()  # trials to be submitted again
        self._counts: Counter[tuple[int, str]] = Counter()  # retries so far, by trial and name
        self._smaller: dict[int, Job] = {}  # jobs that take less memory, by trial

    @property
    def free(self) -> int:
        return max(0, self._executor.free - len(self._again))

    @property
    def busy(self) -> int:
        return self._executor.busy + len(self._again)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        job = self._smaller.get(work.trial, job)
        self._executor.submit(work, trainer, job, state)
        self._under_way[work.trial] = Retriable(work, trainer, job, state)

    def wait(self) -> list[Event]:
        while self._again and self._executor.free:
            self._submit_again(self._again.popleft())
        return [event for each in self._executor.wait() if (event := self._passed_on(each)) is not None]

    def stop(self, trial: int) -> None:
        self._under_way.pop(trial, None)
        if trial in self._again:
            self._again.remove(trial)
        else:
            self._executor.stop(trial)

    def close(self) -> None:
        self._under_way.clear()
        self._again.clear()
        self._executor.close()

    def _submit_again(self, trial: int) -> None:
        retriable = self._under_way[trial]
        self._executor.submit(retriable.work, retriable.trainer, retriable.job, retriable.state)

    def _passed_on(self, event: Event) -> Event | None:
        """Return the event, in full words; None where its trial is to be tried again."""
        retriable = self._under_way.get(event.trial)
        if isinstance(event, Reported):
            if retriable is not None:
                retriable.reported(event)
            return event
        name = next((name for name in self._retries if name in event.kinds), None)
        if retriable is not None and name is not None and event.status == "FAILED":
            count, allowed = self._counts[event.trial, name], self._retries[name]
            if count < allowed:
                self._counts[event.trial, name] += 1
                self._try_again(retriable, event, f"retry {count + 1} of {allowed}")
                return None
            retries = plural(allowed, "retry") if allowed == 1 else f"{allowed} retries"
            event = replace(event, reason=f"{event.reason} (after {retries})")
        self._under_way.pop(event.trial, None)
        return event

    def _try_again(self, retriable: Retriable, end: Ended, count: str) -> None:
        way = self._shrink(retriable) if OUT_OF_MEMORY in end.kinds else ""
        epoch = retriable.work.start
        log.warning(
            "trial %d, epoch %d: %s; goes on from epoch %d%s (%s)", end.trial, epoch + 1, end.reason, epoch, way, count
        )
        self._again.append(end.trial)

    def _shrink(self, retriable: Retriable) -> str:
        """Have a trial go on in less memory where that is possible; return the settings that changed, in words."""
        smaller = retriable.trainer.smaller(retriable.job)
        if smaller is None:
            return ""
        before, after = (dict(job.config.get("trainer", {})) for job in (retriable.job, smaller))
        retriable.job = self._smaller[retriable.work.trial] = smaller
        changed = [f"{name}={value}" for name, value in after.items() if before.get(name) != value]
        return f" with {', '.join(changed)}" if changed else " in less memory"
