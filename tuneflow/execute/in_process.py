"""The executor for the calling process: one trial at a time, or lanes."""

from tuneflow.execute.executor import Executor
from tuneflow.execute.inline import Inline
from tuneflow.runtime.runtime import Runtime


def in_process(runtime: Runtime) -> Executor:
    """Return a new executor that trains in the calling process, in lanes where the runtime has several."""
    if runtime.lanes == 1:
        return Inline(runtime)
    from tuneflow.execute.lanes.executor import Fused  # torch's tracing is slow to import

    return Fused(runtime)
