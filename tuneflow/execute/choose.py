"""The executor that a runtime asks for."""

from typing import Any

from tuneflow.errors import listed
from tuneflow.execute.executor import Executor
from tuneflow.execute.in_process import in_process
from tuneflow.execute.lanes.engine_cache import EngineCache
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.execute.processes.worker_process import leave_if_imported
from tuneflow.execute.retrying import RetryingExecutor
from tuneflow.execute.watched import WatchedExecutor
from tuneflow.runtime.ray_runtime import RayRuntime
from tuneflow.runtime.runtime import Runtime


def executor_for(runtime: Runtime) -> Executor:
    """Return a new executor: the runtime's own, or one for its cluster, its worker processes or this process."""
    leave_if_imported()
    if runtime.executor is not None:
        return _checked(runtime.executor(runtime), runtime)
    if isinstance(runtime, RayRuntime):
        from tuneflow.execute.ray.executor import RayExecutor  # Ray is optional

        return RayExecutor(runtime)
    return ProcessExecutor(runtime) if runtime.workers != 1 else in_process(runtime)


def study_executor(runtime: Runtime, engines: EngineCache) -> Executor:
    """Return a new executor for a study, with its cache of engines, and with the retries that the runtime allows."""
    executor = executor_for(runtime)
    if isinstance(executor, EngineCache.Holder):
        executor.engines = engines
    if runtime.executor is not None:
        executor = WatchedExecutor(executor)
    return RetryingExecutor(executor, runtime.retries) if runtime.retries else executor


def _checked(executor: Any, runtime: Runtime) -> Executor:
    """Return the executor that a runtime's factory made.

    Raises:
        TypeError: it lacks a verb of `Executor`, or `free` or `busy` is no number.
    """
    lacks = [verb for verb in ("submit", "wait", "stop", "close") if not callable(getattr(executor, verb, None))]
    lacks += [number for number in ("free", "busy") if not isinstance(getattr(executor, number, None), int)]
    if lacks:
        raise TypeError(
            f"{runtime!r}: executor needs to make an Executor, got {executor!r}; it lacks {listed(lacks)} (free and"
            " busy are whole numbers)."
        )
    result: Executor = executor
    return result
