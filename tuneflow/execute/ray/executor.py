"""The executor of `RayRuntime`: long-lived actors on a Ray cluster, each with one slice or several lanes."""

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

TICK = 1.0  # seconds after which `wait` returns nothing, as there may be more room, or an interrupt


class RayExecutor:
    """Trains in actors of a Ray cluster, requested when there is work for them, and kept until `close`.

    Each trains as the runtime does in one process: as the inline executor, with the same digits for the same number of
    threads, or in lanes. Trainer and model are put into the cluster's object store once, and
    copied from there by each actor once. The state after each epoch comes back with its report, as a value: so nothing
    is lost with a node but the epochs under way. An actor goes on to the next epoch at once: what it trained beyond a
    stop is dropped.

    Ray retries nothing and restarts nothing. An actor that is lost, alone or with its node, loses its current epochs
    and nothing else: its slices go on from their last states reported, each in an actor of its own where there were
    several. A trial that loses two actors in the same epoch has failed. An actor that hangs is noticed by the runtime's
    timeout only.

    Slices that there is no room for yet wait here; as the cluster gets nodes, `free` grows.

    Attributes:
        engines: the cache of the actors' measurements; a study puts its own here.
    """

    def __init__(self, runtime: RayRuntime) -> None:
        self._runtime = runtime
        self.engines = EngineCache()
        self._actors: list[ActorProxy] = []
        self._waiting: deque[Assignment] = deque()
        self._sent: SharedObjects[Any] = SharedObjects(lambda trainer, model: ray.put(cloud.share(trainer, model)))
        self._held: list[Cluster] = []  # the connection, once it is there
        self._lost = 0  # actors lost in a row before they were ready
        self._warned = False
        weakref.finalize(self, _close, self._actors, self._sent, self._held)

    @property
    def free(self) -> int:
        return max(0, self._room() * self._runtime.slots - self.busy)

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(len(actor.work) for actor in self._actors)

    def submit(self, work: Slice, trainer: TrainerProtocol, job: Job, state: TrainState | None) -> None:
        """Take a slice; see Executor.submit.

        Raises:
            TypeError: trainer, model or configuration cannot be sent to another process; the message names the part.
            StudyError: there is no cluster, or no node of it has what a worker needs.
        """
        if not self.free:
            raise RuntimeError(f"all {self._room()} workers have {slices(self._runtime)} each; wait for one to end")
        number = self._sent.number(trainer, job.model)
        self._waiting.append(Assignment(number, work, cloud.pickled_job(job), state))
        self._assign()

    def wait(self) -> list[Event]:
        """Wait for events; return none after a second without any.

        Raises:
            StudyError: no actor can be started, or it cannot load what it was sent; the message has the reason.
        """
        while self.busy:
            for actor in self._actors:
                self._ask(actor)  # not before: what came last may have been the reason for a stop
            sender = self._next_sender()
            if sender is None:
                self._kill_overdue()
            events = self._receive(sender) if sender is not None else []
            self._assign()
            if events or sender is None:
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

    # Assignment of slices.

    def _room(self) -> int:
        """The number of actors that there may be."""
        if not self._held:
            self._held.append(Cluster(self._runtime.address))
        room = self._held[0].room(self._runtime.cpus, self._runtime.gpus)
        if not room and not any(actor.ready for actor in self._actors):
            raise StudyError(
                f"RayRuntime: a worker needs {self._runtime.cpus:g} CPU and {self._runtime.gpus:g} GPU on one node, and"
                f" no node has that; the cluster has {self._held[0]}. Ask for less by cpus= and gpus=, or add a node."
            )
        limit: float = math.inf if self._runtime.workers is None else self._runtime.workers
        return int(min(limit, room or len(self._actors)))

    def _assign(self) -> None:
        """Assign waiting slices to actors that are ready; request as many new ones as are needed.

        Those still to come are left their share, but nothing waits for them when others have ended.
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
        actor.ask(self._sent, self.engines, len(self._actors))

    # Messages.

    def _next_sender(self) -> ActorProxy | None:
        """Of the actors that have answered, the one whose last answer is oldest; None if there was none for a while."""
        waiting = sorted((actor for actor in self._actors if actor.calls), key=lambda actor: actor.last_message)
        by_call = {actor.calls[0]: actor for actor in waiting}
        answered, _ = ray.wait(list(by_call), num_returns=1, timeout=self._patience())
        return by_call[answered[0]] if answered else None

    def _patience(self) -> float:
        """Seconds until an actor is overdue, at most a tick."""
        if self._runtime.timeout is None:
            return TICK
        last_message = min((actor.last_message for actor in self._actors if actor.at_work), default=math.inf)
        return min(TICK, max(0.0, last_message + self._runtime.timeout - time.monotonic()))

    def _kill_overdue(self) -> None:
        timeout = self._runtime.timeout
        for actor in self._actors:
            if timeout is not None and actor.at_work and time.monotonic() >= actor.last_message + timeout:
                actor.kill(f"sent nothing for {timeout:g} seconds")

    def _receive(self, actor: ActorProxy) -> list[Event]:
        try:
            answer = actor.receive()
        except RayError as error:
            if isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError):
                raise  # a defect of RayActor, which catches all that training can raise
            return self._drop_lost(actor, error)
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
        reply: Reply = answer.value()
        self.engines.merge(reply.engines)
        events, left = actor.accept_reply(reply)
        self._waiting.extend(left)
        return events

    def _drop_lost(self, actor: ActorProxy, error: Exception) -> list[Event]:
        """Remove an actor that is gone; its slices go on in others, or have failed."""
        self._actors.remove(actor)
        exit_reason, seconds = actor.exit_reason(error), time.monotonic() - actor.last_message
        actor.kill()
        if not actor.ready:
            self._lost += 1
            if self._lost >= STARTS:
                raise StudyError(f"RayRuntime: {STARTS} workers in a row ended at their start; the last: {error}")
        ended, left = actor.lost(exit_reason, seconds, str(error))
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
