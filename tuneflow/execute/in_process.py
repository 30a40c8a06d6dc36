"""The executor for the calling process: one trial at a time, or lanes."""

from tuneflow.execute.executor import Executor
from tuneflow.execute.inline import InlineExecutor
from tuneflow.runtime.runtime import Runtime


def in_process(runtime: Runtime) -> Executor:
    """Return a new executor that trains in the calling process, in lanes where the runtime has several."""
    if runtime.lanes == 1:
        return InlineExecutor(runtime)
    from tuneflow.execute.lanes.executor import LaneExecutor  # torch's tracing is slow to import

    return LaneExecutor(runtime)
