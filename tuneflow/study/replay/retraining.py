"""Retraining: a slice trained again in this process, from the state that it started from."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuneflow.errors import CheckpointError, StudyError
from tuneflow.execute.executor import Ended, Reported
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.history import History
from tuneflow.history.trial import Report, Slice, Trial
from tuneflow.nested import mapped
from tuneflow.seeds import torch_stream
from tuneflow.store.checkpoints import States
from tuneflow.study.replay.replay_slices import first_epoch, length_of
from tuneflow.train.checked_epochs import checked_start
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import TrainerProtocol

NOISE = {"fp32": 6e-8, "fp16": 5e-5, "bf16": 4e-4}  # relative, about that of the rounding in an operation


@dataclass(frozen=True)
class Retrained:
    """The outcome of training a slice again.

    Attributes:
        reports: of its epochs, and of one beyond it where that was asked for.
        last: the event of the slice's last epoch, or of the last one that it came to; None without any.
        end: the event that ended it.
    """

    reports: list[Report]
    last: Reported | None
    end: Ended


@dataclass(frozen=True)
class Retraining:
    """Trains slices of a study again, without a change to what is stored.

    Args:
        trainer: the study's.
        history: the study's.
        states: those that are kept.
        job: returns a trial's job.
    """

    trainer: TrainerProtocol
    history: History
    states: States
    job: Callable[[Trial], Job]
    _between: States = field(default_factory=lambda: States(None, 2**30))  # states that were trained again for others

    def of(self, work: Slice, further: int = 0, noise: int | None = None) -> Retrained:
        """Train a slice again, and `further` epochs beyond it.

        Args:
            work: the slice.
            further: number of epochs.
            noise: number of the noise that is added to the state that it starts from; None for none.

        Raises:
            StudyError: the state that it starts from is not kept, and cannot be trained again.
        """
        trial = self.history.trials[work.trial]
        trainer, job, start = self.trainer_of(trial), self.job(trial), self.start(trial, work.start)
        return trained_again(
            trainer, job, start if noise is None else with_noise(trainer, job, start, noise), work, further
        )

    def start(self, trial: Trial, epoch: int) -> TrainState | None:
        """Return the state that a slice starts from; None for the beginning of a trial."""
        if epoch > first_epoch(trial):
            return self._state(trial, epoch)
        return None if trial.parent is None else self._state(self.history.trials[trial.parent[0]], epoch)

    def trainer_of(self, trial: Trial) -> TrainerProtocol:
        """Return the trainer of the full length that a trial was trained for."""
        length = length_of(trial, self.history)
        if length == self.trainer.epochs:
            return self.trainer
        return self.trainer.with_epochs(length).reporting_at([each for each in self.history.lengths if each <= length])

    def _state(self, trial: Trial, epoch: int) -> TrainState | None:
        """Return a trial's state after an epoch: the one that is kept, else trained again from the last one before."""
        first, number = first_epoch(trial), trial.number
        if epoch <= first:
            return self.start(trial, epoch)
        for states in (self.states, self._between):
            if epoch in states.epochs(number) and (kept := readable(states, number, epoch)) is not None:
                return kept
        earlier = {first} | self.states.epochs(number) | self._between.epochs(number)
        begin = max(each for each in earlier if first <= each < epoch)
        parts = (self.trainer_of(trial), self.job(trial), self._state(trial, begin))
        trained = trained_again(*parts, Slice(number, begin, epoch))
        if trained.last is None or trained.last.state.epoch != epoch:
            how = f"{trained.end.status} ({trained.end.reason})"
            raise StudyError(f"it starts from trial {number} at epoch {epoch}, which trained again ends before: {how}")
        self._between.put(number, trained.last.state)
        return trained.last.state


def trained_again(
    trainer: TrainerProtocol, job: Job, start: TrainState | None, work: Slice, further: int = 0
) -> Retrained:
    """Train a job in this process from a state, None for its beginning, to `further` epochs beyond the end of `work`.

    It may end before.
    """
    executor, reports, last = InlineExecutor(job.runtime), list[Report](), None
    executor.submit(Slice(work.trial, work.start, work.until + further), trainer, job, start)
    while True:
        for event in executor.wait():
            if isinstance(event, Ended):
                return Retrained(reports, last, event)
            reports.append(event.report)
            last = event if event.report.epoch <= work.until else last


def with_noise(trainer: TrainerProtocol, job: Job, start: TrainState | None, number: int) -> TrainState:
    """Return a state, None for the beginning, with noise of the size of rounding in its tensors of fractions.

    Args:
        trainer: makes the beginning.
        job: what is trained.
        start: the state.
        number: of the noise.
    """
    generator, noise = torch_stream(number, "replay noise"), NOISE.get(job.runtime.precision, NOISE["fp32"])

    def changed(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.numel() < 2 or bool((tensor == tensor.round()).all()):
            return tensor  # also masks, and counts
        factors = 1 + noise * torch.randn(tensor.shape, generator=generator)
        return tensor * factors.to(tensor.device, tensor.dtype)

    begin = checked_start(trainer, job) if start is None else start
    return TrainState(begin.epoch, mapped(changed, begin.values))


def readable(states: States, trial: int, epoch: int) -> TrainState | None:
    """Return a state; None where its file is damaged, or gone meanwhile."""
    try:
        return states.get(trial, epoch)
    except CheckpointError:
        return None
