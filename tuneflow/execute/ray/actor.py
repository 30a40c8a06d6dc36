"""RayActor: the class that Ray instantiates as a worker; it trains an epoch at each call."""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    def take(self, command: CloudPickled, shared: Sequence[Any]) -> LoadFailure | None:
        """Carry out a command; return the first failure to load a slice, if any.

        Args:
            command: a packed Command.
            shared: references to the packed trainers and models that are attached to its tasks.
        """
        references = iter(shared)
        with _ending_with_its_device():
            return self._worker.take(command.value(), lambda: ray.get(next(references)).value())

    def train(self) -> CloudPickled:
        """Train until there are events; return a packed Reply, without events where there is nothing to train."""
        with _ending_with_its_device():
            return self._worker.train(pack)[1]


@contextmanager
def _ending_with_its_device() -> Iterator[None]:
    """A block that ends the process where its device is lost; the study starts another actor for its slices."""
    try:
        yield
    except DeviceLost:
        os._exit(LOST)
