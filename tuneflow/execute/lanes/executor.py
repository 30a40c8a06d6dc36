"""The executor of `Runtime(lanes=...)`: trials of one structure take their steps together."""

from collections import deque
from collections.abc import Hashable

from tuneflow.execute.executor import Ended, Event
from tuneflow.execute.guard import Guarded
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.lanes.engine_cache import ONE_BY_ONE, EngineCache
from tuneflow.execute.lanes.lane import Lane
from tuneflow.execute.lanes.rounds import RepeatedSlices
from tuneflow.execute.lanes.structure import programs_of, structure_of, unfit_lane
from tuneflow.execute.lanes.structure_group import StructureGroup
from tuneflow.history.trial import Slice
from tuneflow.runtime.devices import check_responds
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol


class LaneExecutor:
    """Trains up to `runtime.lanes` trials at once in the calling process.

    Trials that differ only in numbers, such as rates, decays and the seeds of their weights, are one program: every
    step is traced once and replayed for all of them. Which engine does that, or whether each is trained alone as the
    inline executor does, is measured. A trial's result is that of training it alone, but for rounding.

    The folds and replicas of a trial are lanes of their own, so that there are `runtime.lanes` times as many; those of
    one fold are one program.

    Attributes:
        engines: the cache of measurements; a study puts its own here.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self.engines = runtime, EngineCache()
        self._groups: dict[Hashable, StructureGroup] = {}
        self._parts: deque[StructureGroup | InlineExecutor] = deque()
        self._alone: dict[int, InlineExecutor] = {}
        self._repeated = RepeatedSlices()
        self._trials: set[int] = set()  # under way
        self._failed = False  # a slice did since the last one was submitted

    @property
    def free(self) -> int:
        return self._runtime.slots - self.busy

    @property
    def busy(self) -> int:
        return len(self._trials)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        if self.free < 1:
            raise RuntimeError(f"all {self._runtime.slots} lanes have a slice each; wait for one to end")
        if self._failed:
            check_responds(self._runtime.device)
        self._failed = False
        self._trials.add(work.trial)
        for part in self._repeated.split(work, trainer, job, state):
            self._submit(*part)

    def _submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        lane = self._lane(work, trainer, job, state)
        if lane is None:
            self._train_alone(work, trainer, job, state)
        else:
            self._group(lane).add(lane)

    def wait(self) -> list[Event]:
        with Guarded(), self._runtime.active():
            while self.busy:
                part = self._parts.popleft()
                events = part.wait() if part.busy else []
                if part.busy or isinstance(part, StructureGroup):
                    self._parts.append(part)
                self._alone = {trial: inline for trial, inline in self._alone.items() if inline.busy}
                events = self._repeated.gather(events, self._stop)
                self._trials -= {event.trial for event in events if isinstance(event, Ended)}
                if events:
                    self._failed |= any(isinstance(event, Ended) and event.status == "FAILED" for event in events)
                    return events
        return []

    def stop(self, trial: int) -> None:
        self._trials.discard(trial)
        for part in self._repeated.forget(trial):
            self._stop(part)

    def _stop(self, trial: int) -> None:
        inline = self._alone.pop(trial, None)
        if inline is not None:
            inline.close()
        else:
            for group in self._groups.values():
                group.stop(trial)

    def close(self) -> None:
        self._trials.clear()
        self._groups.clear()
        self._parts.clear()
        self._alone.clear()
        self._repeated = RepeatedSlices()

    def _lane(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> Lane | None:
        """Return the slice as a lane; None where it has to be trained alone."""
        reason = trainer.alone()
        if reason:
            self.engines.announce(ONE_BY_ONE + reason)
            return None
        try:
            with Guarded(), self._runtime.active():
                lane = Lane(work, trainer, job, state)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None  # it is raised again where the slice is trained alone, and reported there
        if lane.over is not None:
            return None
        reason = unfit_lane(lane)
        if reason:
            self.engines.announce(ONE_BY_ONE + reason)
        return None if reason else lane

    def _group(self, lane: Lane) -> StructureGroup:
        structure = structure_of(lane)
        if structure not in self._groups:
            programs = programs_of(lane, structure)
            group = StructureGroup(structure.name, self.engines, self._give_back, self._more, programs)
            self._groups[structure] = group
            self._parts.append(group)
        return self._groups[structure]

    def _more(self) -> float:
        return self.engines.to_come() / max(1, self.busy)

    def _give_back(self, lane: Lane) -> None:
        self._train_alone(lane.left, lane.trainer, lane.job, lane.state)

    def _train_alone(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        inline = self._alone[work.trial] = InlineExecutor(self._runtime)
        inline.submit(work, trainer, job, state)
        self._parts.append(inline)
