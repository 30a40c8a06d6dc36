"""Preflight: what is checked and tried before trial 0, so that a mistake costs seconds and not a run."""

from dataclasses import dataclass

from tuneflow.check.dry_run import StudyDryRun
from tuneflow.execute.guard import Guarded
from tuneflow.history.objective import Objective
from tuneflow.model import Model
from tuneflow.runtime.runtime import Runtime
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.study.arguments import check_reported
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True)
class Preflight:
    """The checks of a study's parts against one another.

    Args:
        space, model, runtime, objective, seed: the study's.
        trainer: the trainer of one seed.
        new: False where the study has trials already, so that names and signatures are checked only.
    """

    space: SearchSpace
    model: Model | None
    trainer: TrainerProtocol
    runtime: Runtime
    objective: Objective
    seed: int
    new: bool

    def check(self) -> None:
        """Raise ValueError or TypeError where the space does not fit model and trainer, or does not train."""
        with Guarded():
            self.trainer.check(self._dry_run)

    def rehearse(self) -> None:
        """Have the trainer try one configuration of every branch of the space.

        Raises:
            ValueError, TypeError: it fails, or reports no metric of an objective or limit.
        """
        for config in self.space.examples():
            try:
                with Guarded():
                    metrics = self.trainer.rehearse(self._job(config), self._dry_run)
            except Exception as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"configuration {config}: the loop fails: {type(error).__name__}: {error}") from error
            if metrics:
                check_reported(self.objective, metrics)

    def example(self) -> Job:
        """Return the job of one configuration of the space."""
        return self._job(next(iter(self.space.examples())))

    @property
    def _dry_run(self) -> StudyDryRun:
        return StudyDryRun(self.space, self.model, self.runtime, self.new)

    def _job(self, config: Config) -> Job:
        return Job(self.model, self.space.resolve(config), self.runtime, self.seed)
