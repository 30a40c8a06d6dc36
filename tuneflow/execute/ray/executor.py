"""The executor of `RayRuntime`: long-lived actors on a Ray cluster, each with a slice, or with as many as lanes."""

import math
import time
import weakref
from collections import deque
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from tuneflow.errors import StudyError, warn
from tuneflow.execute.executor import Event
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.ray import pickling as cloud
from tuneflow.execute.ray.actor import VERSIONS, Versions
from tuneflow.execute.ray.cluster import Cluster
from tuneflow.execute.ray.proxy import ActorProxy
from tuneflow.execute.workers.assignment import STARTS, Assignment, SharedObjects, slices
from tuneflow.execute.workers.messages import LoadFailure, Reply
from tuneflow.execute.workers.worker_proxy import spread
from tuneflow.history.trial import Slice
from tuneflow.runtime.ray_runtime import RayRuntime
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

TICK = 1.0  # seconds after which `wait` comes back with nothing, as there may be more room, or a wish to leave


class RayExecutor:
    """Trains in actors of a Ray cluster. They are asked for when there is work for them, and live until `close`.

    Each trains as the runtime does in one process: as the inline executor, with the same digits for the same number of
    threads, or in lanes. Trainer and model are put into the cluster's object store once, and
    copied from there by each actor once. The state after each epoch comes back with its report, as a value: so nothing
    is lost with a node but the epochs under way. An actor goes on to the next epoch at once: what it trained beyond a
    stop is dropped.

    Ray retries nothing and restarts nothing. An actor that is lost, alone or with its node, takes its own epochs along
    and nothing else: its slices go on from their last states reported, each in an actor of its own where there were
    several. A trial that loses two actors in the same epoch has failed. An actor that hangs is noticed by the runtime's
    timeout only.

    Slices that there is no room for yet wait here; as the cluster gets nodes, `free` grows.

    Attributes:
        notes: where it is kept what the actors measured; a study gives its own.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime
        self.notes = EngineCache()
        self._actors: list[ActorProxy] = []
        self._waiting: deque[Assignment] = deque()
        self._sent: SharedObjects[Any] = SharedObjects(lambda trainer, model: ray.put(cloud.parcel(trainer, model)))
        self._held: list[Cluster] = []  # the connection, once it is there
        self._lost = 0  # actors lost in a row before they were ready
        self._warned = False
        weakref.finalize(self, _close, self._actors, self._sent, self._held)

    @property
    def free(self) -> int:
        return max(0, self._room() * self._runtime.seats - self.busy)

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(actor.work) for actor in self._actors)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """As Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: there is no cluster, or no node of it has what a worker needs.
        """
        if not self.free:
            raise RuntimeError(f"all {self._room()} workers have {slices(self._runtime)} each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._waiting.append(Assignment(number, work, cloud.given(job), state))
        self._staff()

    def wait(self) -> list[Event]:
        """As Executor.wait; with nothing to tell it comes back after a second.

        Raises:
            StudyError: no actor can be started, or it cannot load what it was sent; the message says why.
        """
        while self.busy:
            for actor in self._actors:
                self._ask(actor)  # not before: what came last may have been the reason for a stop
            speaker = self._speaker()
            if speaker is None:
                self._kill_overdue()
            events = self._hear(speaker) if speaker is not None else []
            self._staff()
            if events or speaker is None:
                return events
        return []

    def stop(self, trial: int) -> None:
        for work in [work for work in self._waiting if work.trial == trial]:
            self._waiting.remove(work)
        for actor in self._actors:
            actor.stop(trial)

    def close(self) -> None:
        """Drop every slice, end the actors, and leave the cluster, which ends it where it was started here."""
        self._waiting.clear()
        _close(self._actors, self._sent, self._held)

    # Room and staff.

    def _room(self) -> int:
        """How many actors there may be."""
        if not self._held:
            self._held.append(Cluster(self._runtime.address))
        room = self._held[0].room(self._runtime.cpus, self._runtime.gpus)
        if not room and not any(actor.ready for actor in self._actors):
            raise StudyError(
                f"RayRuntime: a worker needs {self._runtime.cpus:g} CPU and {self._runtime.gpus:g} GPU on one node, and"
                f" no node has that; the cluster has {self._held[0]}. Ask for less by cpus= and gpus=, or add a node."
            )
        most: float = math.inf if self._runtime.workers is None else self._runtime.workers
        return int(min(most, room or len(self._actors)))

    def _staff(self) -> None:
        """Give out what waits, to actors that are there; ask for as many new ones as are wanted.

        Those that are still to come are left their share, but nothing waits for them when others have ended.
        """
        able = [actor for actor in self._actors if actor.ready and (actor.work or actor.idle)]
        spread(self._waiting, able, math.ceil(self.busy / max(1, len(self._actors))))
        for actor in able:
            if actor.idle and actor.full:
                self._ask(actor)
        if self._waiting:
            coming = sum(not actor.ready for actor in self._actors)
            for _ in range(min(len(self._waiting) - coming, self._room() - len(self._actors))):
                self._actors.append(ActorProxy(self._runtime))

    def _ask(self, actor: ActorProxy) -> None:
        actor.ask(self._sent, self.notes, len(self._actors))

    # What the actors say.

    def _speaker(self) -> ActorProxy | None:
        """Of those that have something to say, the one heard longest ago; None when there was none for a while."""
        asked = sorted((actor for actor in self._actors if actor.calls), key=lambda actor: actor.heard)
        by_call = {actor.calls[0]: actor for actor in asked}
        answered, _ = ray.wait(list(by_call), num_returns=1, timeout=self._patience())
        return by_call[answered[0]] if answered else None

    def _patience(self) -> float:
        """Seconds until an actor is overdue, or a tick."""
        if self._runtime.timeout is None:
            return TICK
        heard = min((actor.heard for actor in self._actors if actor.at_work), default=math.inf)
        return min(TICK, max(0.0, heard + self._runtime.timeout - time.monotonic()))

    def _kill_overdue(self) -> None:
        timeout = self._runtime.timeout
        for actor in self._actors:
            if timeout is not None and actor.at_work and time.monotonic() >= actor.heard + timeout:
                actor.kill(f"sent nothing for {timeout:g} seconds")

    def _hear(self, actor: ActorProxy) -> list[Event]:
        try:
            answer = actor.hear()
        except RayError as error:
            if isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError):
                raise  # from within a Seat, where all is caught that training can raise
            return self._lose(actor, error)
        if isinstance(answer, Versions):
            actor.ready, self._lost = True, 0
            self._check_versions(answer)
            return []
        if isinstance(answer, LoadFailure):
            if not actor.ready:
                raise StudyError(f"RayRuntime: a worker cannot start: {answer.reason}\n{answer.detail}".rstrip())
            if actor.training:
                raise answer.error()
            return []
        told: Reply = answer.value()
        self.notes.hear(told.news)
        events, left = actor.tell(told)
        self._waiting.extend(left)
        return events

    def _lose(self, actor: ActorProxy, error: Exception) -> list[Event]:
        """An actor is gone: what it trained goes on in another, or has failed."""
        self._actors.remove(actor)
        fate, seconds = actor.fate(error), time.monotonic() - actor.heard
        actor.kill()
        if not actor.ready:
            self._lost += 1
            if self._lost >= STARTS:
                raise StudyError(f"RayRuntime: {STARTS} workers in a row ended at their start; the last: {error}")
        ended, left = actor.lost(fate, seconds, str(error))
        self._waiting.extendleft(reversed(left))
        return list(ended)

    def _check_versions(self, there: Versions) -> None:
        if there.tuneflow != VERSIONS.tuneflow:
            raise StudyError(
                f"RayRuntime: a worker has tuneflow {there.tuneflow}, this process {VERSIONS.tuneflow}; install one of"
                " them everywhere."
            )
        if there.torch != VERSIONS.torch and not self._warned:
            self._warned = True
            warn(f"RayRuntime: a worker has torch {there.torch}, this process {VERSIONS.torch}; scores depend on it.")


def _close(actors: list[ActorProxy], sent: SharedObjects[Any], held: list[Cluster]) -> None:
    if ray.is_initialized():
        for actor in actors:
            actor.kill()
    actors.clear()
    sent.clear()
    for cluster in held:
        cluster.leave()
    held.clear()
