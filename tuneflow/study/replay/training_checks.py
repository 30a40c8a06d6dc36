"""The checks of trainings beside the trials: those under fresh seeds, and final models on all rows."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tuneflow.errors import CheckpointError, StudyError, plural
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.trial import Report, Slice, Trial
from tuneflow.runtime.runtime import Runtime
from tuneflow.store.store import Store
from tuneflow.study.confirm import LOOK, Look, Looks
from tuneflow.study.final_model import FinalModels
from tuneflow.study.replay.agreement import gaps_between
from tuneflow.study.replay.replayed import ReplayedSlice
from tuneflow.study.replay.retraining import trained_again, with_noise
from tuneflow.study.replay.slice_check import REPETITIONS, differing, finding_of, noise_gaps, state_gap
from tuneflow.train.job import TrainState


@dataclass(frozen=True)
class LookCheck:
    """Trains again what was trained under a fresh seed.

    Args:
        looks: the study's, of which only the job and the result are taken.
        store: where they are kept.
        runtime: trains in this process.
        steps: name to the step that a metric moves in.
    """

    looks: Looks
    store: Store
    runtime: Runtime
    steps: Mapping[str, float]

    def __call__(self, look: Look) -> ReplayedSlice:
        """Return the outcome of one such training."""
        rows = "" if look.rows is None else f" on {plural(look.rows, 'row')}"
        words = f"trial {look.number} under fresh seed {look.seed}{rows}, epochs 1 to {look.epoch}"
        stored, job = self.store.recall(look.key) or {}, replace(self.looks.job_of(look), runtime=self.runtime)
        trainer = self.looks.trainer.reporting_at({look.epoch})
        work = Slice(look.number, 0, look.epoch)
        trained = trained_again(trainer, job, None, work)
        last, end = trained.last, trained.end
        if last is not None and self.looks.measures is not None:
            last, end = self.looks.measured(last, end, job)
        result = self.looks.result_of(last, end)
        if "metrics" not in result or "metrics" not in stored:
            same = result.get("reason") == stored.get("reason")
            reason = (
                f"it is stored as {stored.get('reason') or 'trained'}, trained again: {result['reason'] or 'trained'}"
            )
            return ReplayedSlice(words, "equal") if same else differing(words, reason)
        reports = [Report(look.epoch, each["metrics"], each["errors"]) for each in (stored, result)]
        gaps = gaps_between(reports[:1], reports[1:], self.steps)
        start = partial(with_noise, trainer, job, None)
        noise = noise_gaps(gaps, trained, lambda number: trained_again(trainer, job, start(number), work), self.steps)
        return finding_of(words, gaps, noise, self.runtime.precision)


def looks_of(store: Store) -> list[Look]:
    """Return all trainings under fresh seeds that are kept, in the order of their keys."""
    return [Look.of(key) for key in store.recall_all(LOOK)]


@dataclass(frozen=True)
class FinalCheck:
    """Trains final models on all rows again.

    Args:
        finals: the study's.
        runtime: trains in this process.
    """

    finals: FinalModels
    runtime: Runtime

    def __call__(self, which: tuple[int, int]) -> ReplayedSlice:
        """Return the outcome of one of them, by trial and number of epochs."""
        number, epochs = which
        words, trial = f"final model of trial {number}, {plural(epochs, 'epoch')}", self.finals.history.trials[number]
        try:
            trained = self._trained(trial, epochs)
            gaps = [state_gap(self.finals.states.get(number, epochs), trained)]
            noisy = range(REPETITIONS) if gaps[0].size else ()
            noise = [state_gap(trained, self._trained(trial, epochs, number)) for number in noisy]
        except (CheckpointError, StudyError) as error:
            return differing(words, str(error))
        return finding_of(words, gaps, noise, self.runtime.precision)

    def _trained(self, trial: Trial, epochs: int, noise: int | None = None) -> TrainState:
        """Train a final model again, from a start with the noise of a number; None for no noise."""
        trainer: Any = self.finals.trainer
        if noise is not None:
            plain, trainer = trainer, copy.copy(trainer)
            trainer.init = lambda job: with_noise(plain, job, None, noise)
        finals = replace(
            self.finals,
            trainer=trainer,
            executor=lambda: InlineExecutor(self.runtime),
            job=lambda part: replace(self.finals.job(part), runtime=self.runtime),
        )
        return finals.train(trial, epochs)


def finals_of(finals: FinalModels | None) -> list[tuple[int, int]]:
    """Return (trial, number of epochs) of the final models that are kept."""
    if finals is None:
        return []
    return [(t.number, epochs) for t in finals.history.trials for epochs in sorted(finals.states.epochs(t.number))]
