"""The protocol that trainers keep: training in slices, and the questions that a study asks of a trainer."""

import copy
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

from torch import nn

from tuneflow.history.trial import Report
from tuneflow.metrics.measured import Measured
from tuneflow.signature import name_of
from tuneflow.train.job import Job, TrainState

Curve = Mapping[int, Mapping[str, float]]  # metrics by epoch
Epochs = Generator[tuple[TrainState, Report], None, str | None]


class Rehearsal(NamedTuple):
    """The outcome of trying a configuration before trial 0.

    Attributes:
        metrics: names of the metrics that it reports; empty where it came to none.
        epochs: state and report after each of the first epochs, where a trial of this configuration, model, seed and
            runtime comes to the same to the last bit; else empty.
    """

    metrics: Sequence[str]
    epochs: Sequence[tuple[TrainState, Report]] = ()


class DryRun(Protocol):
    """The checks before trial 0 that a study offers to its trainer; see `tuneflow.check.dry_run`."""

    def check_space(self, trainer: Any) -> None:
        """Raise unless every branch of the space fits a tn.Trainer and trains for a few steps."""

    def check_loop(self, loop: Any, job: Job) -> Rehearsal:
        """Raise if a tn.loop hides state from its `run.epochs(...)`."""
        ...


class TrainerProtocol:
    """The protocol of trainers: `init` and `advance` are required, everything else has a default.

    tn.Trainer, tn.loop, plain functions and Repeated keep it; a trainer for another framework is a subclass. A trainer
    holds nothing that changes: both required methods are functions of the job and the state, so that a trial can stop
    after any epoch and go on in another process. `tuneflow.testing.check_trainer` checks this.

    Attributes:
        epochs: the full length of a trial.
        folds: number of folds that a study trains every configuration on, as jobs with `fold` 0, 1, ...; a job without
            one is then for all rows. 1 without cross-validation.
        has_model: False where no trial leaves a model, as with a plain function.
        uses_runtime: False where nothing is computed on the runtime's device and in its precision.
        inspectable: True for a tn.Trainer, whose single steps the library can take by itself: it then measures
            curvature and learning rates before trial 0, and compares precisions.
        checks: the branches of the space that are rehearsed before trial 0: True for all, "first" for that of trial 0,
            False for none.
    """

    epochs: int = 1
    folds: int = 1
    has_model: bool = True
    uses_runtime: bool = True
    inspectable: bool = False
    checks: Literal[True, False, "first"] = True

    # Required.

    def init(self, job: Job) -> TrainState:
        """Return the state before the first epoch, drawn from the job's seed."""
        raise NotImplementedError(f"{type(self).__name__} needs a method init(job)")

    def advance(self, job: Job, state: TrainState, until: int) -> Epochs:
        """Train from `state` to epoch `until`; yield the new state and its report after every epoch.

        Args:
            job: what is trained.
            state: where to start; not modified.
            until: the last epoch to train, counted from 1.

        Returns:
            The generator's return value is the reason why the trial is done before its full length, or an empty string.

        Raises:
            Diverged: a loss is not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method advance(job, state, until)")

    # Optional.

    def module(self, job: Job, state: TrainState) -> nn.Module:
        """Return the trained module of `state`, in evaluation mode."""
        raise NotImplementedError(f"{type(self).__name__} gives no model; it needs a method module(job, state)")

    def retrain(self, job: Job, state: TrainState, until: int, curve: Curve) -> Epochs:  # noqa: ARG002
        """Train as `advance` does, for the final model of a cross-validation; by default it is `advance`.

        Args:
            job: what is trained, on all rows: it has no fold.
            state: where to start; not modified.
            until: the last epoch to train.
            curve: the mean metrics of the folds by epoch, for a schedule that watches one: all rows are trained on, and
                none are left to score.
        """
        return self.advance(job, state, until)

    def with_epochs(self, epochs: int) -> Self:
        """Return this trainer with another full length."""
        trainer = copy.copy(self)
        trainer.epochs = epochs
        return trainer

    def finished(self, job: Job, state: TrainState, longer: int) -> str:  # noqa: ARG002
        """Return the reason why a trial cannot be trained on beyond the full length; an empty string where it can.

        It can if its epochs so far were the same in a trial that is longer from the start.

        Args:
            job: what is trained.
            state: the last state of the trial that is kept.
            longer: the new full length.
        """
        kind = type(self).__name__
        return f"{kind} has no method finished() to say that its training does not depend on the full length"

    def reporting_at(self, epochs: Collection[int]) -> Self:  # noqa: ARG002
        """Return this trainer with all metrics in the reports of these epochs too, where some are `sparse`."""
        return self

    def length(self, state: TrainState) -> int:
        """Return the number of epochs behind `state`, of a Repeated the rounded mean over folds and replicas."""
        return state.epoch

    def modules(self, job: Job, state: TrainState) -> list[nn.Module]:
        """Return every trained module of `state`: of a Repeated one for each fold and replica, else a single one."""
        return [self.module(job, state)]

    def describe(self) -> dict[str, Any]:
        """Return everything that scores depend on, as JSON; a study stores it and refuses to resume with another."""
        return {"trainer": name_of(type(self)), "epochs": self.epochs}

    @property
    def reports(self) -> Sequence[str] | None:
        """Names of the metrics in every report; None where they are not known before training."""
        return None

    @property
    def sparse(self) -> Mapping[str, int]:
        """The metrics that only each k-th epoch and the last one report, name to k."""
        return {}

    @property
    def single(self) -> "TrainerProtocol":
        """The trainer of one seed and fold, which is this one, or the trainer inside a Repeated."""
        return self

    def jobs(self, job: Job) -> list[Job]:
        """Return the jobs of one seed and fold each that `single` trains for this one; by default itself."""
        return [job]

    def check(self, dry_run: DryRun) -> None:
        """Raise ValueError or TypeError for what would fail in training, when a study is made. By default nothing."""

    def rehearsal(self, branches: int) -> str:  # noqa: ARG002
        """Return the line that says what `rehearse` does in so many branches of the space; empty for none."""
        return ""

    def rehearse(self, job: Job, dry_run: DryRun) -> Rehearsal | None:
        """Try a configuration before trial 0 is trained. By default nothing.

        Called once for each branch of the space that `checks` asks for.
        """

    def smaller(self, job: Job) -> Job | None:  # noqa: ARG002
        """Return the job in less memory, with the same scores but for rounding; None, the default, for no such job.

        Called after a trial ran out of memory, for a retry of it; see `Runtime(retries=...)`.
        """
        return None

    def alone(self) -> str:
        """Return the reason why its trials cannot share their steps in lanes; an empty string where they can."""
        return f"{type(self).__name__} trains by itself"

    def test(self, job: Job, module: nn.Module, data: Any) -> dict[str, Measured] | None:
        """Return loss and metrics of a trained module on other data; None, the default, where there are none.

        Args:
            job: the one that the module was trained for.
            module: as the method `module` returns it.
            data: inputs and targets as the user has them, not normalized.
        """

    def save(self, module: nn.Module, path: Path) -> bool | None:
        """Write a trained module in a format of its own and return True; by default the study writes one for `tn.load`.

        Args:
            module: as the method `module` returns it.
            path: the file to write.
        """
