"""Replicated: trains one configuration under several seeds, so that its score has a standard error."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from tuneflow.history.trial import Report
from tuneflow.nested import copied
from tuneflow.train.job import Job, TrainState
from tuneflow.train.protocol import Epochs, TrainerProtocol
from tuneflow.validate import check_whole


class Replicated(TrainerProtocol):
    """Trains every job `replicas` times, under replica seeds 0, 1, ..., one epoch of each after another.

    A report has the mean of each metric over the replicas and its standard error; seconds add up. If one replica
    diverges, the trial has diverged. A replica that its trainer ends early counts with its last report while the others
    continue; the trial ends with the last replica, for its reason.

    Args:
        trainer: keeps the trainer protocol, as tn.Trainer and tn.loop do.
        replicas: how many, at least 1; a single one reports the trainer's own errors.

    Raises:
        ValueError: replicas is not a whole number >= 1.
    """

    def __init__(self, trainer: Any, replicas: int) -> None:
        self.trainer, self.replicas = trainer, check_whole("Replicated: replicas", replicas)
        self.epochs = trainer.epochs

    def __repr__(self) -> str:
        return f"Replicated({self.trainer!r}, {self.replicas})"

    @property
    def single(self) -> TrainerProtocol:
        inner: TrainerProtocol = self.trainer
        return inner

    @property
    def reports(self) -> Sequence[str] | None:
        return self.single.reports

    @property
    def evaluate(self) -> Any:
        """The trainer's `evaluate`, if it has one."""
        return self.trainer.evaluate

    def describe(self) -> dict[str, Any]:
        """Return the trainer's facts and the number of replicas."""
        return {**self.trainer.describe(), "replicas": self.replicas}

    def init(self, job: Job) -> TrainState:
        """Return the states of all replicas before their first epoch."""
        states = [self.trainer.init(replace(job, replica=i)) for i in range(self.replicas)]
        return TrainState(0, _values([_Replica(state) for state in states]))

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        replicas = _replicas(state)
        trainings = [
            self.trainer.advance(replace(job, replica=i), replica.state, until) for i, replica in enumerate(replicas)
        ]
        try:
            for epoch in range(state.epoch + 1, until + 1):
                reason, seconds = "", 0.0
                for i, replica in enumerate(replicas):
                    if not replica.done:
                        ended, took = replica.step(trainings[i], i)
                        reason, seconds = reason or ended, seconds + took
                if all(replica.done for replica in replicas):
                    return reason
                yield TrainState(epoch, _values(replicas)), _summary(epoch, replicas, seconds)
        finally:
            for training in trainings:
                training.close()
        return ""

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Return the module of replica 0."""
        return self.single.module(replace(job, replica=0), _replicas(state)[0].state)


class _Replica:
    """One replica: its state, its last metrics, and whether its trainer has ended it."""

    def __init__(self, state: TrainState, metrics: dict[str, float] | None = None, done: bool = False) -> None:
        self.state, self.metrics, self.done = state, metrics or {}, done
        self.errors: dict[str, float] = {}

    def step(self, training: Epochs, number: int) -> tuple[str, float]:
        """Train one epoch; return the reason why the trainer ended it, or an empty string, and the seconds."""
        try:
            self.state, report = next(training)
        except StopIteration as stopped:
            self.done = True
            return stopped.value or "", 0.0
        except Exception as error:
            error.add_note(f"in replica {number}")
            raise
        self.metrics, self.errors = dict(report.metrics), dict(report.errors)
        return "", report.seconds


def _values(replicas: Sequence[_Replica]) -> dict[str, Any]:
    """Return the values of the common state: tensors and plain numbers."""
    return {
        "replicas": [copied(r.state.values) if r.done else r.state.values for r in replicas],
        "epochs": [replica.state.epoch for replica in replicas],
        "metrics": [dict(replica.metrics) for replica in replicas],
        "done": [int(replica.done) for replica in replicas],
    }


def _replicas(state: TrainState) -> list[_Replica]:
    columns = (state.values[name] for name in ("replicas", "epochs", "metrics", "done"))
    return [
        _Replica(TrainState(epoch, values), dict(metrics), bool(done))
        for values, epoch, metrics, done in zip(*columns, strict=True)
    ]


def _summary(epoch: int, replicas: Sequence[_Replica], seconds: float) -> Report:
    """Return the common report: mean and standard error of each metric, over the replicas that have one."""
    reported = [replica for replica in replicas if replica.metrics]
    if len(reported) == 1:
        return Report(epoch, reported[0].metrics, reported[0].errors, seconds)
    columns = {name: np.array([replica.metrics[name] for replica in reported]) for name in reported[0].metrics}
    with np.errstate(invalid="ignore"):  # infinity is a value too
        means = {name: float(column.mean()) for name, column in columns.items()}
        errors = {name: float(column.std(ddof=1) / len(column) ** 0.5) for name, column in columns.items()}
    return Report(epoch, means, {name: error for name, error in errors.items() if error == error}, seconds)
