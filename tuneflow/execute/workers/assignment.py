"""Assignments to workers, and the trainers and models that are shared with all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from tuneflow.history.trial import Slice
from tuneflow.model import Model
from tuneflow.train.job import TrainState
from tuneflow.train.protocol import TrainerProtocol

DEATHS = 2  # workers lost in the same epoch of a trial, after which the trial has failed
STARTS = 3  # workers lost in a row before they were ready, after which no more are started

P = TypeVar("P")


@dataclass(eq=False)
class Assignment:
    """A slice for a worker, at its last reported state.

    Attributes:
        shared: number of the shared object that holds its trainer and model.
        work: the rest of the slice.
        job: config, seed, replica, trial and fold of its job, pickled.
        state: the last that was reported; None for a new trial.
        deaths: workers lost to it since that report.
        alone: keep its worker to itself until the next report, since it may have caused a death.
        avoids: the device on which it lost a worker since that report; None for none.
    """

    shared: int
    work: Slice
    job: bytes
    state: TrainState | None
    deaths: int = 0
    alone: bool = False
    avoids: torch.device | None = None

    @property
    def trial(self) -> int:
        return self.work.trial

    @property
    def piece(self) -> Slice:
        """The part to train now: a single epoch where it is alone."""
        return Slice(self.trial, self.work.start, self.work.start + 1) if self.alone else self.work

    @property
    def over(self) -> bool:
        return self.work.start >= self.work.until

    def advance(self, state: TrainState) -> None:
        """Go on from a newly reported state."""
        self.work, self.state = Slice(self.trial, state.epoch, self.work.until), state
        self.deaths, self.alone, self.avoids = 0, False, None


class SharedObjects(Generic[P]):
    """The trainers and models that were sent, by number, each packed once by `pack`."""

    def __init__(self, pack: Callable[[TrainerProtocol, Model | None], P]) -> None:
        self._pack = pack
        self._sent: list[tuple[TrainerProtocol, Model | None, P]] = []  # held, so that no identity is used again

    def number(self, trainer: TrainerProtocol, model: Model | None) -> int:
        """The number by which workers know this trainer and model; packs them where they are new."""
        for number, (its_trainer, its_model, _) in enumerate(self._sent):
            if its_trainer is trainer and its_model is model:
                return number
        self._sent.append((trainer, model, self._pack(trainer, model)))
        return len(self._sent) - 1

    def __getitem__(self, number: int) -> P:
        return self._sent[number][2]

    def clear(self) -> list[P]:
        """Remove all of them, and return their packed forms."""
        packed = [shared for _, _, shared in self._sent]
        self._sent.clear()
        return packed
