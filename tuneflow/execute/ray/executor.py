"""The executor of `RayRuntime`: long-lived actors on a Ray cluster, each with one slice or several lanes."""

import math
import weakref
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from typing_extensions import override

from tuneflow.errors import StudyError, warn
from tuneflow.execute.executor import Event
from tuneflow.execute.ray import pickling as cloud
from tuneflow.execute.ray.actor import VERSIONS, Versions
from tuneflow.execute.ray.cluster import Cluster
from tuneflow.execute.ray.proxy import ActorProxy
from tuneflow.execute.workers.assignment import STARTS, SharedObjects
from tuneflow.execute.workers.messages import LoadFailure
from tuneflow.execute.workers.worker_executor import WorkerExecutor
from tuneflow.execute.workers.worker_proxy import spread
from tuneflow.runtime.ray_runtime import RayRuntime

TICK = 1.0  # seconds after which `wait` returns nothing, as there may be more room, or an interrupt


class RayExecutor(WorkerExecutor[ActorProxy]):
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
    """

    _runtime: RayRuntime

    def __init__(self, runtime: RayRuntime) -> None:
        super().__init__(
            runtime, SharedObjects(lambda trainer, model: ray.put(cloud.share(trainer, model))), cloud.CLOUD
        )
        self._held: list[Cluster] = []  # the connection, once it is there
        self._warned = False
        weakref.finalize(self, _close, self._workers, self._sent, self._held)

    def wait(self) -> list[Event]:
        """Wait for events; return none after a second without any.

        Raises:
            StudyError: no actor can be started, or it cannot load what it was sent; the message has the reason.
        """
        while self.busy:
            for actor in self._workers:
                # Not before: what came last may have been the reason for a stop.
                actor.ask(self._sent, self.engines, len(self._workers))
            sender = self._next_sender()
            if sender is None:
                self._kill_overdue()
            events = self._receive(sender) if sender is not None else []
            self._assign()
            if events or sender is None:
                return events
        return []

    def close(self) -> None:
        """Drop every slice, end the actors, and leave the cluster, which ends it where it was started here."""
        self._waiting.clear()
        _close(self._workers, self._sent, self._held)

    # Assignment of slices.

    @override
    def _room(self) -> int:
        if not self._held:
            self._held.append(Cluster(self._runtime.address))
        room = self._held[0].room(self._runtime.cpus, self._runtime.gpus)
        if not room and not any(actor.ready for actor in self._workers):
            raise StudyError(
                f"RayRuntime: a worker needs {self._runtime.cpus:g} CPU and {self._runtime.gpus:g} GPU on one node, and"
                f" no node has that; the cluster has {self._held[0]}. Ask for less by cpus= and gpus=, or add a node."
            )
        limit: float = math.inf if self._runtime.workers is None else self._runtime.workers
        return int(min(limit, room or len(self._workers)))

    @override
    def _assign(self) -> None:
        """Assign waiting slices to actors that are ready; request as many new ones as are needed.

        Those still to come are left their share, but nothing waits for them when others have ended.
        """
        able = [actor for actor in self._workers if actor.ready and (actor.work or actor.idle)]
        spread(self._waiting, able, math.ceil(self.busy / max(1, len(self._workers))))
        for actor in able:
            if actor.idle and actor.full:
                actor.ask(self._sent, self.engines, len(self._workers))
        if self._waiting:
            coming = sum(not actor.ready for actor in self._workers)
            for _ in range(min(len(self._waiting) - coming, self._room() - len(self._workers))):
                self._workers.append(ActorProxy(self._runtime, self._free_number()))

    # Messages.

    def _next_sender(self) -> ActorProxy | None:
        """Of the actors that have answered, the one whose last answer is oldest; None if there was none for a while."""
        waiting = sorted((actor for actor in self._workers if actor.calls), key=lambda actor: actor.last_message)
        by_call = {actor.calls[0]: actor for actor in waiting}
        patience = self._patience()
        timeout = TICK if patience is None else min(TICK, patience)
        answered, _ = ray.wait(list(by_call), num_returns=1, timeout=timeout)
        return by_call[answered[0]] if answered else None

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
        actor.begun = True
        return [] if answer is None else self._accept(actor, answer.value())

    def _drop_lost(self, actor: ActorProxy, error: Exception) -> list[Event]:
        """Remove an actor that is gone; its slices go on in others, or have failed."""
        self._workers.remove(actor)
        exit_reason = actor.exit_reason(error)
        actor.kill()
        if not actor.ready:
            self._lost += 1
            if self._lost >= STARTS:
                raise StudyError(f"RayRuntime: {STARTS} workers in a row ended at their start; the last: {error}")
        return self._fail_over(actor, exit_reason, str(error))

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
