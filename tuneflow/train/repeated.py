"""Repeated: trains one configuration under several seeds and on every fold, so that its score has a standard error."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from tuneflow.history.trial import Report
from tuneflow.nested import copied
from tuneflow.train.checked_epochs import checked_epochs, checked_start
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Epochs, TrainerProtocol
from tuneflow.validate import check_whole


def repeated(trainer: TrainerProtocol, replicas: int) -> TrainerProtocol:
    """Return the trainer of a configuration under `replicas` seeds and on every fold; `trainer` for one of each."""
    return trainer if replicas == trainer.folds == 1 else Repeated(trainer, replicas)


class Repeated(TrainerProtocol):
    """Trains every job under `replicas` seeds on each of the trainer's folds, one epoch of each after another.

    A report has the mean of each metric and its standard error: over the folds, each of them the mean of its replicas;
    without folds over the replicas. The training rows of folds overlap, so their scores are not independent and the
    error is too small by a factor that cannot be estimated from them. Seconds add up. If one repetition diverges, the
    trial has diverged. One that its trainer ends early counts with its last report while the others continue; the trial
    ends with the last of them, for its reason. A metric that one of them lacks is not in the report.

    Args:
        trainer: keeps the trainer protocol, as tn.Trainer and tn.loop do.
        replicas: number of seeds, at least 1: the job's replica and those that follow.

    Raises:
        ValueError: replicas is not a whole number >= 1.

    Source: Bengio, Grandvalet, No unbiased estimator of the variance of K-fold cross-validation, JMLR 5, 2004.
    """

    def __init__(self, trainer: Any, replicas: int) -> None:
        self.trainer, self.replicas = trainer, check_whole("Repeated: replicas", replicas)
        self.epochs, self.folds = trainer.epochs, trainer.folds
        self.has_model = trainer.has_model

    def __repr__(self) -> str:
        folds = f", {self.folds} folds" if self.folds > 1 else ""
        return f"Repeated({self.trainer!r}, {self.replicas}{folds})"

    @property
    def single(self) -> TrainerProtocol:
        inner: TrainerProtocol = self.trainer
        return inner

    @property
    def reports(self) -> Sequence[str] | None:
        return self.single.reports

    @property
    def sparse(self) -> Mapping[str, int]:
        return self.single.sparse

    @property
    def evaluate(self) -> Any:
        """The trainer's `evaluate`, if it has one."""
        return self.trainer.evaluate

    def describe(self) -> dict[str, Any]:
        """Return the trainer's facts and the number of replicas."""
        return {**self.trainer.describe(), "replicas": self.replicas}

    def jobs(self, job: Job) -> list[Job]:
        """Return the job of every repetition: the folds of one replica after those of another."""
        folds = range(self.folds) if self.folds > 1 else [None]
        replicas = range(job.replica, job.replica + self.replicas)
        return [replace(job, replica=replica, fold=fold) for replica in replicas for fold in folds]

    def smaller(self, job: Job) -> Job | None:
        return self.single.smaller(job)

    def alone(self) -> str:
        return self.single.alone()

    def with_epochs(self, epochs: int) -> "Repeated":
        return Repeated(self.trainer.with_epochs(epochs), self.replicas)

    def reporting_at(self, epochs: Collection[int]) -> "Repeated":
        return Repeated(self.trainer.reporting_at(epochs), self.replicas)

    def finished(self, job: Job, state: TrainState, longer: int) -> str:
        pairs = zip(self.jobs(job), repetitions_of(state), strict=True)
        reasons = [self.single.finished(each, part.state, longer) for each, part in pairs if not part.done]
        return next(filter(None, reasons), "")

    def init(self, job: Job) -> TrainState:
        """Return the states of all repetitions before their first epoch."""
        return joined(0, [Repetition(checked_start(self.trainer, each)) for each in self.jobs(job)])

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        repetitions, jobs = repetitions_of(state), self.jobs(job)
        trainings = [
            checked_epochs(self.trainer, each, repetition.state, until)
            for each, repetition in zip(jobs, repetitions, strict=True)
        ]
        try:
            for epoch in range(state.epoch + 1, until + 1):
                reason, seconds = "", 0.0
                for each, repetition, training in zip(jobs, repetitions, trainings, strict=True):
                    if not repetition.done:
                        ended, took = repetition.step(training, self.label(each))
                        reason, seconds = reason or ended, seconds + took
                if all(repetition.done for repetition in repetitions):
                    return reason
                yield joined(epoch, repetitions), self.report(epoch, repetitions, seconds)
        finally:
            for training in trainings:
                training.close()
        return ""

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Return the module of the first replica, on the first fold."""
        return self.single.module(self.jobs(job)[0], repetitions_of(state)[0].state)

    def modules(self, job: Job, state: TrainState) -> list[nn.Module]:
        """Return the module of every repetition."""
        pairs = zip(self.jobs(job), repetitions_of(state), strict=True)
        return [self.single.module(each, repetition.state) for each, repetition in pairs]

    def length(self, state: TrainState) -> int:
        return repeated_length(state)

    def label(self, job: Job) -> str:
        """Return a repetition in words: `in replica 1, fold 2`."""
        fold = [f"fold {job.fold}"] if self.folds > 1 else []
        replica = [f"replica {job.replica}"] if self.replicas > 1 or not fold else []
        return f"in {', '.join(replica + fold)}"

    def report(self, epoch: int, repetitions: Sequence["Repetition"], seconds: float) -> Report:
        """Return the common report: mean and standard error of each metric, over the folds, else over the replicas."""
        count = self.folds if self.folds > 1 else self.replicas
        groups = [[r for r in repetitions[i::count] if r.metrics] for i in range(count)]
        groups = [group for group in groups if group]
        if sum(map(len, groups)) == 1:
            return Report(epoch, groups[0][0].metrics, groups[0][0].errors, seconds)
        names = [name for name in groups[0][0].metrics if all(name in r.metrics for g in groups for r in g)]
        with np.errstate(invalid="ignore"):  # infinity is a value too
            columns = {name: np.array([np.mean([r.metrics[name] for r in g]) for g in groups]) for name in names}
            means = {name: float(column.mean()) for name, column in columns.items()}
            errors = {name: float(column.std(ddof=1) / len(column) ** 0.5) for name, column in columns.items()
                      if len(column) > 1}  # fmt: skip
        return Report(epoch, means, {name: error for name, error in errors.items() if error == error}, seconds)


@dataclass
class Repetition:
    """One training of a configuration, under one seed and on one fold.

    Attributes:
        state: its last state.
        metrics, errors: of its last report.
        done: True once its trainer has ended it.
    """

    state: TrainState
    metrics: dict[str, float] = field(default_factory=dict)
    done: bool = False
    errors: dict[str, float] = field(default_factory=dict)

    def step(self, training: Epochs, label: str) -> tuple[str, float]:
        """Train one epoch; return the reason why the trainer ended it, or an empty string, and the seconds."""
        try:
            state, report = next(training)
        except StopIteration as stopped:
            self.done = True
            return stopped.value or "", 0.0
        except BaseException as error:
            error.add_note(label)
            raise
        self.take(state, report)
        return "", report.seconds

    def take(self, state: TrainState, report: Report) -> None:
        """Record an epoch."""
        self.state, self.metrics, self.errors = state, dict(report.metrics), dict(report.errors)


def joined(epoch: int, repetitions: Sequence[Repetition]) -> TrainState:
    """Return the common state: tensors and plain numbers."""
    values = {
        "repetitions": [copied(r.state.values) if r.done else r.state.values for r in repetitions],
        "epochs": [repetition.state.epoch for repetition in repetitions],
        "metrics": [dict(repetition.metrics) for repetition in repetitions],
        "done": [int(repetition.done) for repetition in repetitions],
    }
    return TrainState(epoch, values)


def repeated_length(state: TrainState) -> int:
    """Return the rounded mean of the epochs behind the repetitions of a common state."""
    return max(1, round(float(np.mean(state.values["epochs"]))))


def repetitions_of(state: TrainState) -> list[Repetition]:
    """Return the repetitions in a common state."""
    columns = (state.values[name] for name in ("repetitions", "epochs", "metrics", "done"))
    return [
        Repetition(TrainState(epoch, values), dict(metrics), bool(done))
        for values, epoch, metrics, done in zip(*columns, strict=True)
    ]
