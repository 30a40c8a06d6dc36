"""What the executors that train elsewhere keep of their slices, and of the trainers that they have sent."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tuneflow.execute.executor import Ended, Trains
from tuneflow.model import Model
from tuneflow.train.job import TrainState
from tuneflow.trial import Slice

log = logging.getLogger("tuneflow")

DEATHS = 2  # of processes in the same epoch of a trial, after which the trial has failed
STARTS = 3  # processes lost in a row before they were ready, after which no more is started

P = TypeVar("P")


@dataclass
class Assignment:
    """A slice, as far as it has come: `state` is the last that was reported.

    Attributes:
        parcel: number of its trainer and model.
        given: config, seed, replica and trial of its job, pickled.
        deaths: processes lost to it since that report.
    """

    parcel: int
    work: Slice
    given: bytes
    state: TrainState | None
    deaths: int = 0

    def reached(self, state: TrainState) -> None:
        self.work, self.state = Slice(self.work.trial, state.epoch, self.work.until), state
        self.deaths = 0

    def lost(self, fate: str, seconds: float, detail: str = "") -> Ended | None:
        """Its process is gone, by this fate: how the trial ends, or None where another process is to go on."""
        self.deaths += 1
        where = f"in epoch {self.work.start + 1}"
        if self.deaths >= DEATHS:
            reason = f"its worker process {fate} {where}, as one before it ended in that epoch"
            return Ended(self.work.trial, "FAILED", reason, detail, seconds)
        log.warning("trial %d: its worker process %s %s; another goes on", self.work.trial, fate, where)
        return None


class Sent(Generic[P]):
    """The trainers and models that were sent, by number, each as the parcel that `make` makes of it, once."""

    def __init__(self, make: Callable[[Trains, Model | None], P]) -> None:
        self._make = make
        self._sent: list[tuple[Trains, Model | None, P]] = []  # held, so that nothing else gets their identity

    def number(self, trainer: Trains, model: Model | None) -> int:
        """The number by which workers know this trainer and model."""
        for number, (its_trainer, its_model, _) in enumerate(self._sent):
            if its_trainer is trainer and its_model is model:
                return number
        self._sent.append((trainer, model, self._make(trainer, model)))
        return len(self._sent) - 1

    def __getitem__(self, number: int) -> P:
        return self._sent[number][2]

    def clear(self) -> list[P]:
        """Forget them all; their parcels."""
        parcels = [parcel for _, _, parcel in self._sent]
        self._sent.clear()
        return parcels
