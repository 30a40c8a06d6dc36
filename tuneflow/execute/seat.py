"""What a Ray actor is of: it trains one slice at a time, an epoch at each call."""

import traceback
from dataclasses import dataclass
from typing import Any

import ray
import torch

from tuneflow.execute.bench import Bench, Misread, Settings
from tuneflow.execute.cloud import Packed, pack
from tuneflow.runtime import Runtime
from tuneflow.version import __version__


@dataclass(frozen=True)
class Ready:
    """A worker's first word: the versions that it has."""

    tuneflow: str
    torch: str


VERSIONS = Ready(__version__, str(torch.__version__))


class Seat:
    """Its calls come in order, one at a time, and raise nothing: what goes wrong is what they return."""

    def ready(self, given: dict[str, Any], settings: Settings) -> Ready | Misread:
        """Get ready to train.

        Args:
            given: the arguments of its Runtime.
            settings: its parent's.
        """
        try:
            torch.set_num_threads(given["threads"])
            settings.apply()
            self._bench = Bench(Runtime(**given))
        except Exception as error:
            return Misread(f"{type(error).__name__}: {error}", traceback.format_exc())
        return VERSIONS

    def begin(self, task: Packed, parcel: list[Any]) -> Packed | Misread:
        """Leave the slice that is under way, take the one of `task`, and train its first epoch.

        Args:
            parcel: a reference to its trainer and model, packed; nothing where they are here already.
        """
        self._bench.drop()
        given = task.value()
        for reference in parcel:
            self._bench.load(given.parcel, lambda: ray.get(reference).value())  # noqa: B023
        misread = self._bench.begin(given)
        return self.epoch() if misread is None else misread

    def epoch(self) -> Packed:
        """Train an epoch: what happened, a list of events; an empty one where there is nothing to train."""
        told: list[Packed] = []
        self._bench.epoch(lambda events: told.append(pack(events)))
        return told[-1]
