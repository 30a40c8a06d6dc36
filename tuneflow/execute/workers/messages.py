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

LOST = 98  # exit status of a worker that can no longer use its device


@dataclass(frozen=True)
class EngineUpdate:
    """The part of the parent's engine cache that a worker does not have yet.

    Attributes:
        timings: as JSON, by key.
        to_come: number of trials that the worker will get beside its present ones, as far as that is known.
    """

    timings: dict[str, Any] = field(default_factory=dict)
    to_come: float = 0.0


@dataclass(frozen=True)
class EngineReport:
    """A worker's own measurements, with timings as in EngineUpdate, and the lines to show for them."""

    timings: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.timings or self.lines)


@dataclass(frozen=True)
class Task:
    """A slice for a worker to train.

    Attributes:
        shared: number of the shared object that holds its trainer and model.
        attached: the shared object itself follows this message.
        work: the slice.
        job: config, seed, replica, trial and fold of its job, pickled.
        state: where to start; None for a new trial.
        alone: train it by itself, without lanes.
    """

    shared: int
    attached: bool
    work: Slice
    job: bytes
    state: TrainState | None
    alone: bool = False


@dataclass(frozen=True)
class Command:
    """The message to a waiting worker: drop the slices of `stops`, take `tasks`, and train on."""

    tasks: list[Task]
    stops: list[int]
    engines: EngineUpdate


@dataclass(frozen=True)
class Reply:
    """The message from a worker: the events of its training, and its engine measurements."""

    events: list[Event]
    engines: EngineReport

    @property
    def waits(self) -> bool:
        """True if the worker waits for a command after this reply, since it has room for another slice."""
        return not self.events or any(isinstance(event, Ended) for event in self.events)


@dataclass(frozen=True)
class LoadFailure:
    """The message from a worker that cannot load a trainer, a model or a configuration.

    Attributes:
        reason: type and message of the exception.
        detail: its traceback; may be empty.
    """

    reason: str
    detail: str

    def error(self) -> StudyError:
        """The error to raise in the parent."""
        what = "a worker process cannot load the trainer, the model or a configuration"
        return StudyError(f"{what}: {self.reason}\n{self.detail}".rstrip())


@dataclass(frozen=True)
class ProcessSettings:
    """Process-wide settings that training depends on; a worker takes over its parent's.

    Attributes:
        dtype: torch's default dtype.
        precision: torch's float32 matmul precision.
        deterministic: torch's deterministic debug mode.
        cudnn: its flags benchmark and deterministic.
        flushes: True if denormal numbers count as 0 outside of a runtime's block.
        start: start method of data loaders' processes; a spawned process would spawn, which takes seconds an epoch.
    """

    dtype: torch.dtype
    precision: str
    deterministic: int
    cudnn: tuple[bool, bool]
    flushes: bool
    start: str

    @classmethod
    def current(cls, dtype: torch.dtype | None = None) -> "ProcessSettings":
        """The settings of this process, with another default dtype if one is given."""
        cudnn = torch.backends.cudnn
        return cls(
            dtype or torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(),
            (cudnn.benchmark, cudnn.deterministic),
            flushes(),
            multiprocessing.get_start_method(),
        )

    def apply(self) -> None:
        """Make them the settings of this process."""
        torch.set_default_dtype(self.dtype)
        if self.precision != torch.get_float32_matmul_precision():
            torch.set_float32_matmul_precision(self.precision)
        torch.set_deterministic_debug_mode(self.deterministic)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self.cudnn
        if self.flushes != flushes():
            torch.set_flush_denormal(self.flushes)
        multiprocessing.set_start_method(self.start, force=True)
