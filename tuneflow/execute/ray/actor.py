"""RayActor: the class that Ray instantiates as a worker; it trains an epoch at each call."""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from tuneflow.execute.ray.pickling import CloudPickled, pack
from tuneflow.execute.workers.messages import LOST, LoadFailure, ProcessSettings
from tuneflow.execute.workers.worker import Worker
from tuneflow.runtime.devices import DeviceLost
from tuneflow.runtime.runtime import Runtime
from tuneflow.version import __version__


@dataclass(frozen=True)
class Versions:
    """Versions of the libraries in a process, which a worker returns when it is ready."""

    tuneflow: str
    torch: str


VERSIONS = Versions(__version__, str(torch.__version__))


class RayActor:
    """A worker on the cluster. Its methods run one at a time, in order, and return failures instead of raising them."""

    def ready(self, arguments: dict[str, Any], settings: ProcessSettings) -> Versions | LoadFailure:
        """Prepare for training; return the versions, or why it cannot start.

        Args:
            arguments: those of its Runtime.
            settings: its parent's.
        """
        try:
            torch.set_num_threads(arguments["threads"])
            settings.apply()
            self._worker = Worker(Runtime(**arguments))
        except Exception as error:
            return LoadFailure(f"{type(error).__name__}: {error}", traceback.format_exc())
        return VERSIONS

    def train(self, command: CloudPickled | None = None, shared: Sequence[Any] = ()) -> CloudPickled | LoadFailure:
        """Train until there are events; return a packed Reply, without events where there is nothing to train.

        Args:
            command: a packed Command to carry out before; None for none.
            shared: references to the packed trainers and models that are attached to its tasks.
        """
        try:
            return self._train(command, shared)
        except DeviceLost:
            os._exit(LOST)  # the study starts another actor for its slices

    def _train(self, command: CloudPickled | None, shared: Sequence[Any]) -> CloudPickled | LoadFailure:
        if command is not None:
            references = iter(shared)
            failure = self._worker.take(command.value(), lambda: ray.get(next(references)).value())
            if failure is not None:
                return failure
        return self._worker.train(pack)[1]
