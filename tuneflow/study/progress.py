"""Progress: what a study says while it runs, to standard error and to the logger `tuneflow`."""

import logging
import math
import sys

from tuneflow.execute.guard import guarded
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Trial
from tuneflow.runtime.runtime import Runtime
from tuneflow.study.advice_of_training import advice as advice_on_precision
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

log = logging.getLogger("tuneflow")

ADVISED = 60.0  # seconds of training to come, from which on it is measured what lanes would bring


class Progress:
    """The lines of a run.

    Args:
        shown: whether they go to standard error; the logger gets them in any case.

    Attributes:
        total: how many trials there are to be; inf where that is not known.
    """

    def __init__(self, shown: bool, objective: Objective, runtime: Runtime) -> None:
        self._objective, self._runtime = objective, runtime
        self.begin(math.inf, shown)

    def begin(self, total: float, shown: bool) -> None:
        """A run begins."""
        self.total, self._shown, self._heard = total, shown, ""
        self._told_of_lanes = not self._shown or self._runtime.lanes != 1 or self._runtime.workers != 1

    def show(self, line: str) -> None:
        if self._shown:
            print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Show a line, and log it."""
        self.show(line)
        log.info("%s", line)

    def hear(self, words: str) -> None:
        """Show what a searcher has to say, once; it has logged it itself."""
        if words != self._heard:
            self._heard = words
            self.show(words)

    def ended(self, trial: Trial) -> None:
        """Say how a trial ended."""
        if self._shown or log.isEnabledFor(logging.INFO):
            self.say(_line(trial, self._objective, self.total, self._runtime.label))

    def over(self, reason: str) -> None:
        """Say why a run ended, where it did so before all was trained."""
        if reason == "interrupted":
            self.show("interrupted; run it again and it goes on from here")
        elif reason:
            self.say(f"stopped: {reason}")

    def suggest_precision(self, trainer: Trainer, job: Job) -> None:
        """Say what another precision or layout would bring to a job."""
        with guarded():
            line = advice_on_precision(trainer, job)
        if line:
            self.say(line)

    def suggest_lanes(self, trainer: object, job: Job, left: float) -> None:
        """Say, once in a run, what lanes would bring to jobs like this one, where much is `left`: seconds."""
        if self._told_of_lanes or left < ADVISED:
            return
        from tuneflow.study.advice_of_lanes import advice  # with what it takes to trace

        self._told_of_lanes = True
        line = advice(trainer, job)
        if line:
            self.say(line)


def _line(trial: Trial, objective: Objective, total: float, label: str) -> str:
    scores = [f"{metric} {trial.metrics[metric]:.4f}" for metric in objective.metrics if metric in trial.metrics]
    if trial.metrics and objective.breach(trial.metrics):
        scores.append("beyond the limits")
    of = f" of {total}" if math.isfinite(total) else ""
    words = [
        f"trial {trial.number}{of}",
        trial.status,
        *scores,
        f"{trial.epochs} epochs",
        f"{trial.seconds:.1f} s",
        label,
        trial.reason,
    ]
    return "  ".join(word for word in words if word)
