"""What a Ray actor is of: it trains its slices as its runtime's own executor does, an epoch at each call."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from tuneflow.execute.ray.pickling import CloudPickled, pack
from tuneflow.execute.workers.messages import LoadFailure, ProcessSettings
from tuneflow.execute.workers.worker import Worker
from tuneflow.runtime.runtime import Runtime
from tuneflow.version import __version__


@dataclass(frozen=True)
class Versions:
    """A worker's first word: the versions that it has."""

    tuneflow: str
    torch: str


VERSIONS = Versions(__version__, str(torch.__version__))


class RayActor:
    """Its calls come in order, one at a time, and raise nothing: what goes wrong is what they return."""

    def ready(self, given: dict[str, Any], settings: ProcessSettings) -> Versions | LoadFailure:
        """Get ready to train.

        Args:
            given: the arguments of its Runtime.
            settings: its parent's.
        """
        try:
            torch.set_num_threads(given["threads"])
            settings.apply()
            self._bench = Worker(Runtime(**given))
        except Exception as error:
            return LoadFailure(f"{type(error).__name__}: {error}", traceback.format_exc())
        return VERSIONS

    def train(self, orders: CloudPickled | None = None, parcels: Sequence[Any] = ()) -> CloudPickled | LoadFailure:
        """Train until something happens; what did, as Told, with no events where there is nothing to train.

        Args:
            orders: what to leave and to take before, as Orders.
            parcels: references to the trainers and models that come with its tasks, packed.
        """
        if orders is not None:
            references = iter(parcels)
            misread = self._bench.take(orders.value(), lambda: ray.get(next(references)).value())
            if misread is not None:
                return misread
        return self._bench.train(pack)[1]
