"""The executor that a runtime asks for."""

from tuneflow.execute.executor import Executor
from tuneflow.execute.in_process import in_process
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.execute.processes.worker_process import leave_if_imported
from tuneflow.runtime.ray_runtime import RayRuntime
from tuneflow.runtime.runtime import Runtime


def executor_for(runtime: Runtime) -> Executor:
    """Return a new executor: the runtime's own, or one for its cluster, its worker processes or this process."""
    leave_if_imported()
    if runtime.executor is not None:
        executor: Executor = runtime.executor(runtime)
        return executor
    if isinstance(runtime, RayRuntime):
        from tuneflow.execute.ray.executor import RayExecutor  # Ray is optional

        return RayExecutor(runtime)
    return ProcessExecutor(runtime) if runtime.workers != 1 else in_process(runtime)
