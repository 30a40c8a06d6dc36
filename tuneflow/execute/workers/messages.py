"""The messages between an executor and its workers, and the settings that a worker takes over from its parent."""

import multiprocessing
from dataclasses import dataclass, field
from typing import Any

import torch

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Event
from tuneflow.history.trial import Slice
from tuneflow.runtime.threads import flushes
from tuneflow.train.job import TrainState


@dataclass(frozen=True)
class EngineUpdate:
    """What those who give work to a worker know.

    Attributes:
        paces: as JSON, by key.
        to_come: how many trials the worker will be given beside those that it has, as far as that is known.
    """

    paces: dict[str, Any] = field(default_factory=dict)
    to_come: float = 0.0


@dataclass(frozen=True)
class EngineReport:
    """What a worker has found out: paces as in Brief, and what is to be said."""

    paces: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.paces or self.words)


@dataclass(frozen=True)
class Task:
    """Train a slice.

    Attributes:
        parcel: the number of its trainer and model.
        follows: they come next, as a parcel.
        given: config, seed, replica and trial of its job, pickled.
        alone: by itself, as without lanes.
    """

    parcel: int
    follows: bool
    work: Slice
    given: bytes
    state: TrainState | None
    alone: bool = False


@dataclass(frozen=True)
class Command:
    """What a worker is told that waits: leave these trials, take these tasks, and go on."""

    tasks: list[Task]
    stops: list[int]
    brief: EngineUpdate


@dataclass(frozen=True)
class Reply:
    """What happened in a worker, and what it found out."""

    events: list[Event]
    news: EngineReport

    @property
    def waits(self) -> bool:
        """Whether the worker waits now to be told what is next: it has room for another slice."""
        return not self.events or any(isinstance(event, Ended) for event in self.events)


@dataclass(frozen=True)
class LoadFailure:
    """A worker's answer to what it could not unpickle."""

    reason: str
    detail: str

    def error(self) -> StudyError:
        what = "a worker process cannot load the trainer, the model or a configuration"
        return StudyError(f"{what}: {self.reason}\n{self.detail}".rstrip())


@dataclass(frozen=True)
class ProcessSettings:
    """What a process sets as a whole and training depends on; a worker takes over its parent's.

    Attributes:
        flushes: whether denormal numbers count as 0, outside of a runtime's block.
        start: how data loaders start processes; a spawned process would spawn, which takes seconds an epoch.
    """

    dtype: torch.dtype
    precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    flushes: bool
    start: str

    @classmethod
    def current(cls) -> "ProcessSettings":
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(),
            (cudnn.benchmark, cudnn.deterministic),
            flushes(),
            multiprocessing.get_start_method(),
        )

    def apply(self) -> None:
        torch.set_default_dtype(self.dtype)
        if self.precision != torch.get_float32_matmul_precision():
            torch.set_float32_matmul_precision(self.precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        if self.flushes != flushes():
            torch.set_flush_denormal(self.flushes)
        multiprocessing.set_start_method(self.start, force=True)
