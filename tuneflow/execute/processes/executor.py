"""The executor of `Runtime(workers=...)`: long-lived worker processes, each with one slice or several lanes."""

import sys
import time
from multiprocessing import connection, util
from typing import Any

from typing_extensions import override

from tuneflow.errors import StudyError, listed, warn
from tuneflow.execute.executor import Event
from tuneflow.execute.processes.placement import Placement
from tuneflow.execute.processes.proxy import ProcessProxy, end_all, reap
from tuneflow.execute.processes.worker_process import BEGUN, IDLE, UNGUARDED
from tuneflow.execute.workers import sendable
from tuneflow.execute.workers.assignment import STARTS, SharedObjects
from tuneflow.execute.workers.main_module import is_imported
from tuneflow.execute.workers.messages import LoadFailure, Reply
from tuneflow.execute.workers.pickling import SharedObject, receive
from tuneflow.execute.workers.worker_executor import WorkerExecutor
from tuneflow.execute.workers.worker_proxy import spread
from tuneflow.runtime.devices import DeviceLost, models_of
from tuneflow.runtime.runtime import Runtime


class ProcessExecutor(WorkerExecutor[ProcessProxy]):
    """Trains in worker processes, started when there is work for them, and kept until `close`.

    Each trains as the runtime does in one process: as the inline executor, with the same digits for the same number of
    threads, or in lanes. Trainer and model are sent to a process once, their data in memory that
    all of them share; the state after each epoch comes back with its report. A process goes on to the next epoch at
    once, unless it has room for another slice: what it trained beyond a stop is dropped.

    Where the runtime has several devices, the processes are spread over them in turn, and each sees its own alone. One
    whose device fails ends, and so do, after the third in a row, all on that device: the run goes on without it.

    A process that dies loses its current epochs and nothing else: its slices go on from their last states reported,
    each in a process of its own where there were several. A trial that loses two processes in the same epoch has
    failed. One that hangs is noticed by `timeout` only.

    Args:
        runtime: the device, the lanes and threads of each process, and what `workers` and `timeout` are by default.
        workers: how many processes, at least 1.
        timeout: seconds after which a process that sent no epoch is taken to hang, and killed; None for never. They
            count from its first epoch on; for all that comes before it has UNTIL_BEGUN times as long.
    """

    def __init__(self, runtime: Runtime, workers: int | None = None, timeout: float | None = None) -> None:
        super().__init__(runtime, SharedObjects(sendable.share), sendable.SPAWN)
        self._placement = Placement(runtime.devices, (runtime.workers or 1) if workers is None else workers)
        self._check_models()
        self.timeout = runtime.timeout if timeout is None else timeout
        # When nobody holds this any more, and at exit before multiprocessing waits for its children.
        util.Finalize(self, _close, (self._workers, self._sent), exitpriority=10)

    def wait(self) -> list[Event]:
        """Wait for the events of one process.

        Raises:
            StudyError: no process can be started, no device is left, or a process cannot load what it was sent; the
                message has the reason.
        """
        while self.busy:
            self._dispatch()
            child = self._next_sender()
            events = self._receive(child) if child is not None else []
            if events:
                return events
        return []

    def close(self) -> None:
        """Drop every slice and end the processes: those that are idle leave, those at work are killed."""
        self._waiting.clear()
        _close(self._workers, self._sent)

    # Assignment of slices.

    @override
    def _room(self) -> int:
        return self._placement.room

    @override
    def _assign(self) -> None:
        """Assign waiting slices; a process that can take no more begins at once.

        New processes are started before one that is at work gets more, or one that still drops a slice.
        """
        for work in self._waiting:
            work.avoids = work.avoids if self._placement.has_other(work.avoids) else None
        able = sum(child.idle and not child.work and any(map(child.takes, self._waiting)) for child in self._workers)
        for _ in range(min(len(self._waiting) - able, self._room() - len(self._workers))):
            self._start()
        spread(self._waiting, self._workers, self._runtime.slots)
        for child in self._workers:
            if child.idle and child.full:
                child.begin(self._sent, self.engines, self._room())

    def _start(self) -> None:
        device = self._placement.next(child.device for child in self._workers)
        alone = self._placement.alone(device)
        self._workers.append(ProcessProxy(self._runtime, self._free_number(), device, alone))

    def _dispatch(self) -> None:
        """Start idle processes that have work, and halt those that are to get more; all decisions have been made."""
        for child in self._workers:
            if child.idle and (child.work or child.stops):
                child.begin(self._sent, self.engines, self._room())
            elif child.ready and child.unsent:
                child.halt()

    # Messages.

    def _next_sender(self) -> ProcessProxy | None:
        """Of the processes that sent a message, the one whose last one is oldest; None if one was overdue."""
        by_pipe: dict[Any, ProcessProxy] = {child.pipe: child for child in self._workers}
        senders = [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), self._patience())]
        if not senders:
            self._kill_overdue()
        return min(senders, key=lambda child: child.last_message, default=None)

    def _receive(self, child: ProcessProxy) -> list[Event]:
        message = _message(child)
        if message is None:
            return self._drop_lost(child)
        if isinstance(message, DeviceLost):
            child.lost_device = message
            return self._drop_lost(child)
        if not isinstance(message, LoadFailure) and message != IDLE:
            child.begun = True
        if message == BEGUN:
            return []
        events = self._accept(child, message) if isinstance(message, Reply) else []
        if isinstance(message, Reply) and message.events:
            self._placement.works(child.device)
        if not isinstance(message, Reply) or message.waits:
            self._lost = 0
            child.mark_idle()
        if isinstance(message, LoadFailure) and child.training:  # else it is of a slice that was stopped
            raise message.error()
        self._assign()
        return events

    def _drop_lost(self, child: ProcessProxy) -> list[Event]:
        """Remove a process that is gone; its slices go on elsewhere, or have failed."""
        reap(child)
        self._workers.remove(child)
        self._check_end(child)
        for work in child.work.values():
            work.avoids = child.device
        detail = child.lost_device.detail if child.lost_device is not None else ""
        ended = self._fail_over(child, child.exit_reason(), detail)
        self._assign()
        return ended

    def _check_end(self, child: ProcessProxy) -> None:
        """Leave out a device where processes die in a row; raise StudyError if starting another cannot help."""
        killed_at_start = not child.ready and (child.process.exitcode or 0) < 0
        several = self._placement.alone(child.device) is not None
        if child.lost_device is not None or (killed_at_start and several):
            self._placement.lost(child.device, child.started, child.exit_reason())
        elif not child.ready:
            self._check_start(child)

    def _check_start(self, child: ProcessProxy) -> None:
        code = child.process.exitcode or 0
        script = getattr(sys.modules["__main__"], "__file__", None) if is_imported() else None
        if code == UNGUARDED:
            raise StudyError(
                f"Runtime: {script} starts a study when it is imported, and every worker process imports it; put what"
                ' it runs under `if __name__ == "__main__":`, or leave out workers.'
            )
        self._lost += 1
        if code >= 0 and not child.overdue:
            raise StudyError(
                f"Runtime: a worker process {child.exit_reason()} before it was ready; its output has the reason. It"
                f" imports {f'{script} and ' if script else ''}the modules of trainer and model."
            )
        if self._lost >= STARTS:
            raise StudyError(
                f"Runtime: {STARTS} worker processes in a row ended at their start; the last {child.exit_reason()}."
            )

    def _check_models(self) -> None:
        models = models_of(self._runtime.devices)
        if len(models) > 1:
            warn(
                f"Runtime: the devices are of different models, {listed(models)}: the last digits of a score depend on"
                " which one trained the trial; devices= chooses among them."
            )


def _message(child: ProcessProxy) -> Any:
    """Receive its message; None if it is gone."""
    try:
        message = receive(child.pipe)
    except (EOFError, OSError):
        return None
    child.last_message = time.monotonic()
    return message


def _close(children: list[ProcessProxy], sent: SharedObjects[SharedObject]) -> None:
    end_all(children)
    children.clear()
    for shared in sent.clear():
        shared.close()
