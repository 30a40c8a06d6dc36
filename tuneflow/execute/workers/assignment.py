"""What the executors that train elsewhere keep of their slices, and of the trainers that they have sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tuneflow.history.trial import Slice
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.train.job import TrainState
from tuneflow.train.protocol import TrainerProtocol

DEATHS = 2  # of processes in the same epoch of a trial, after which the trial has failed
STARTS = 3  # processes lost in a row before they were ready, after which no more is started

P = TypeVar("P")


def slices(runtime: Runtime) -> str:
    """How many slices a worker has at most, in words."""
    return f"{runtime.seats} slices" if runtime.seats > 1 else "a slice"


@dataclass(eq=False)
class Assignment:
    """A slice, as far as it has come: `state` is the last that was reported.

    Attributes:
        parcel: number of its trainer and model.
        given: config, seed, replica and trial of its job, pickled.
        deaths: processes lost to it since that report.
        alone: it is to be the only one in its worker, as it may have been the end of one; until the next report.
    """

    parcel: int
    work: Slice
    given: bytes
    state: TrainState | None
    deaths: int = 0
    alone: bool = False

    @property
    def trial(self) -> int:
        return self.work.trial

    @property
    def piece(self) -> Slice:
        """What is to be trained of it now."""
        return Slice(self.trial, self.work.start, self.work.start + 1) if self.alone else self.work

    @property
    def over(self) -> bool:
        return self.work.start >= self.work.until

    def reached(self, state: TrainState) -> None:
        self.work, self.state = Slice(self.trial, state.epoch, self.work.until), state
        self.deaths, self.alone = 0, False


class SharedObjects(Generic[P]):
    """The trainers and models that were sent, by number, each as the parcel that `make` makes of it, once."""

    def __init__(self, make: Callable[[TrainerProtocol, Model | None], P]) -> None:
        self._make = make
        self._sent: list[tuple[TrainerProtocol, Model | None, P]] = []  # held, so that nothing else gets their identity

    def number(self, trainer: TrainerProtocol, model: Model | None) -> int:
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
