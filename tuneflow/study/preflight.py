"""Preflight: what is checked and tried before trial 0, so that a mistake costs seconds and not a run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

from tuneflow.check.branches import other_branches
from tuneflow.check.dry_run import StudyDryRun
from tuneflow.errors import ending_where, exceptions_only, in_one_line
from tuneflow.execute.guard import Guarded
from tuneflow.execute.head_start import Begun
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Trial
from tuneflow.space.search_space import Config
from tuneflow.space.values import rounded
from tuneflow.study.arguments import check_reported
from tuneflow.train.job import Job
from tuneflow.train.protocol import Rehearsal, TrainerProtocol


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

    def check_grown(self, earlier: Iterable[Config]) -> None:
        """Check a study whose space grew: all of it like that of a new study, and the branches that are new.

        Args:
            earlier: a configuration of each branch that the space had before.

        Raises:
            ValueError, TypeError: the space does not fit, does not train, or a new branch fails.
        """
        replace(self, dry_run=replace(self.dry_run, new=True)).check()
        new = other_branches(self.dry_run.space, *earlier) if self.trainer.checks is True else []
        self.dry_run.log(self.trainer.rehearsal(len(new)) if new else "")
        for config in new:
            self._rehearse(config, self._job(config), replace(self.dry_run, brief=True))

    def rehearse(self, first: Callable[[], Config | None], job: Callable[[Trial], Job]) -> Begun | None:
        """Have the trainer try one configuration of every branch of the space, or of as many as it asks for.

        A trainer that takes time for it, and says so, begins with trial 0's own configuration. If that cannot be
        trained, or reports nothing, the middle of its branch is tried like those of the others.

        Args:
            first: returns the configuration of trial 0; called where it is needed.
            job: returns a trial's job.

        Returns:
            The first epochs of trial 0, where a trial comes to the same; else None.

        Raises:
            ValueError, TypeError: it fails, or reports no metric of an objective or limit.
        """
        if self.trainer.checks is False:
            return None
        own = first() if self.trainer.rehearsal(1) else None
        others = self._branches(own)
        self.dry_run.log(self.trainer.rehearsal(len(others) + (own is not None)))
        tried = None if own is None else self._tried(own, job)
        for config in others if tried is not None else self._branches(None):
            self._rehearse(config, self._job(config), replace(self.dry_run, brief=own is not None))
        return None if own is None or tried is None or not tried.epochs else Begun(own, tried.epochs)

    def _branches(self, own: Config | None) -> list[Config]:
        """Return a configuration of each branch that is to be tried, but for that of trial 0's own one."""
        only_first, space = self.trainer.checks == "first", self.dry_run.space
        if own is None:
            return list(islice(space.examples(), 1 if only_first else None))
        return [] if only_first else other_branches(space, own)

    def _tried(self, own: Config, job: Callable[[Trial], Job]) -> Rehearsal | None:
        """Return the outcome of trial 0's own configuration; None where that shows nothing of the others."""
        try:
            outcome = self._rehearse(own, job(Trial(0, own)), self.dry_run)
        except (ValueError, TypeError):  # an error of the loop is one of other configurations too
            return None
        return outcome if outcome is not None and outcome.metrics else None

    def _rehearse(self, config: Config, job: Job, dry_run: StudyDryRun) -> Rehearsal | None:
        try:
            with Guarded():
                outcome = self.trainer.rehearse(job, dry_run)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            said = in_one_line(error)
            _, _, rule = said.partition(": ")  # a broken rule names the loop itself
            message = rule if rule.startswith("loop ") else f"the loop fails: {said}"
            raise ending_where(error, kind(f"configuration {rounded(config)}: {message}")) from None
        if outcome is not None and outcome.metrics:
            check_reported(self.objective, outcome.metrics)
        return outcome

    def example(self) -> Job:
        """Return the job of one configuration of the space."""
        return self._job(next(iter(self.dry_run.space.examples())))

    def _job(self, config: Config) -> Job:
        return Job(self.dry_run.model, self.dry_run.space.resolve(config), self.dry_run.runtime, self.seed)
