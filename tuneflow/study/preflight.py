"""Preflight: what is checked and tried before trial 0, so that a mistake costs seconds and not a run."""

from dataclasses import dataclass, replace

from tuneflow.check.dry_run import StudyDryRun
from tuneflow.errors import ending_where, exceptions_only, in_one_line
from tuneflow.execute.guard import Guarded
from tuneflow.history.objective import Objective
from tuneflow.space.search_space import Config
from tuneflow.space.values import rounded
from tuneflow.study.arguments import check_reported
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True)
class Preflight:
    """The checks of a study's parts against one another.

    Args:
        trainer: the trainer of one seed.
        dry_run: the study's, which holds space, model and runtime.
        objective, seed: the study's.
    """

    trainer: TrainerProtocol
    dry_run: StudyDryRun
    objective: Objective
    seed: int

    def check(self) -> None:
        """Raise ValueError or TypeError where the space does not fit model and trainer, or does not train."""
        with Guarded(), exceptions_only("the dry run", ValueError):
            self.trainer.check(self.dry_run)

    def check_again(self) -> None:
        """Check a study that has trials like a new one, as after its space grew."""
        replace(self, dry_run=replace(self.dry_run, new=True)).check()

    def rehearse(self) -> None:
        """Have the trainer try one configuration of every branch of the space.

        Raises:
            ValueError, TypeError: it fails, or reports no metric of an objective or limit.
        """
        for config in self.dry_run.space.examples():
            try:
                with Guarded():
                    metrics = self.trainer.rehearse(self._job(config), self.dry_run)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                message = f"configuration {rounded(config)}: the loop fails: {in_one_line(error)}"
                raise ending_where(error, kind(message)) from None
            if metrics:
                check_reported(self.objective, metrics)

    def example(self) -> Job:
        """Return the job of one configuration of the space."""
        return self._job(next(iter(self.dry_run.space.examples())))

    def _job(self, config: Config) -> Job:
        return Job(self.dry_run.model, self.dry_run.space.resolve(config), self.dry_run.runtime, self.seed)
