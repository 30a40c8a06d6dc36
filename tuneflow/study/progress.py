"""Progress: the lines that a study shows while it runs, with its status below, and sends to the logger `tuneflow`."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneflow.analysis.advice import first_advice
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import printable
from tuneflow.analysis.speed_gain import SpeedGain
from tuneflow.errors import plural
from tuneflow.execute.executor import Event
from tuneflow.execute.guard import Guarded
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Trial
from tuneflow.metrics.measured import number_text
from tuneflow.pages.live import LiveDisplay
from tuneflow.pages.run_status import RunStatus
from tuneflow.pages.trainings_status import TrainingsStatus
from tuneflow.runtime.runtime import Runtime
from tuneflow.study.budget import Budget
from tuneflow.study.speed_measurement import lanes_advice, precision_advice
from tuneflow.train.job import Job
from tuneflow.train.trainer import Trainer

log = logging.getLogger("tuneflow")

ADVISED = 60.0  # seconds of training to come, from which on the gain of lanes is measured


class Progress:
    """The lines of a run.

    Args:
        shown: True to print the lines; the logger gets them in any case.
        objective: the study's, whose metrics are shown.
        runtime: the study's, whose precision is shown.

    Attributes:
        total: number of trials that the run ends with; inf where that is not known.
    """

    def __init__(self, shown: bool, objective: Objective, runtime: Runtime) -> None:
        self._objective, self._runtime, self._live = objective, runtime, LiveDisplay()
        self._asked: RunStatus | None = None  # of a study of ask and tell
        self.begin(math.inf, shown)

    def begin(self, total: float, shown: bool) -> None:
        """Start the lines of a run."""
        self.total, self._shown, self._last = total, shown, ""
        self._repeats, self._idle, self._interrupted = False, True, False
        self._lanes_advised = not self._shown or self._runtime.lanes != 1 or self._runtime.workers != 1

    @contextmanager
    def following(self, history: History, budget: Budget) -> Iterator[None]:
        """A block in which the status of a run is shown, where that can be done."""
        self._history = history
        if self._shown:
            earlier = budget.target is not None or budget.plateau is not None
            self._live.begin(RunStatus(history, self.total, budget.epochs, budget.deadline, earlier))
        try:
            yield
        finally:
            self._live.end()

    @contextmanager
    def following_trainings(self, count: int, epochs: int) -> Iterator[Callable[[Iterable[Event]], None]]:
        """A block in which trainings that are no trials are shown; the function that it gives takes their events."""
        status = TrainingsStatus(count, epochs)

        def watch(events: Iterable[Event]) -> None:
            status.count(events)
            self._live.update()

        if self._shown and count:
            self._live.begin(status)
        try:
            yield watch
        finally:
            self._live.end()

    def asked(self, history: History, total: float) -> None:
        """Show the status of a study of ask and tell, as it is now."""
        if self._shown and (self._asked is None or self._asked.total != total):
            self._asked = RunStatus(history, total)
            self._live.begin(self._asked, in_notebooks=False)
        if self._shown and len(history.running):  # else the next trial is asked for at once, or none is
            self._live.update()

    def close(self) -> None:
        """Remove the status."""
        self._asked = None
        self._live.end()

    def update(self) -> None:
        """Show the status as it is before the next events are waited for."""
        self._idle = False
        self._live.update()

    def show(self, line: str, passing: bool = False) -> None:
        """Show a line; a `passing` one need not be shown for good."""
        if self._shown:
            self._live.print(printable(line), passing)

    def log(self, line: str) -> None:
        """Print a line, and log it; an empty one is no line."""
        if line:
            self.show(line)
            log.info("%s", line)

    def waits(self, line: str) -> None:
        """Show that there is a trial that this run could not end; also where no other lines are shown."""
        self._live.print(printable(line))
        log.warning("%s", line)

    def show_once(self, line: str) -> None:
        """Print a searcher's line unless it was its last one already; the searcher has logged it itself."""
        if line != self._last:
            self._last = line
            self.show(line)

    def repeats(self, number: int) -> None:
        """Show once in a run that every configuration was tried."""
        if not self._repeats:
            self._repeats = True
            self.log(f"all configurations were tried; from trial {number} on each is trained again under another seed")

    def resumed(self, folder: Path, history: History) -> None:
        """Show how far a study is that goes on."""
        paused = f" and {plural(len(history.paused), 'paused trial')}" if len(history.paused) else ""
        self.show(f"{folder}: resuming after {plural(history.ended, 'ended trial')}{paused}")

    def ended(self, trial: Trial) -> None:
        """Show how a trial ended."""
        self._idle = False
        if self._shown or log.isEnabledFor(logging.INFO):
            line = self._line(trial)
            self.show(line, passing=True)
            log.info("%s", line)

    def over(self, reason: str) -> None:
        """Show why a run ended, where it did so before everything was trained, or that everything was before."""
        if self._idle and not reason and math.isfinite(self.total):
            self.show(self._nothing_to_do())
        if reason == "interrupted":
            self._interrupted = True
            self.show("interrupted; run it again and it goes on from here")
        elif reason:
            self.log(f"stopped: {reason}")

    def _nothing_to_do(self) -> str:
        """Return the line of a run that had nothing to train, for its trials were trained before, or are elsewhere."""
        ended, live = self._history.ended, len(self._history) - self._history.ended
        elsewhere = f", {plural(live, 'other')} under way in another process" if live else ""
        return f"{ended} of {plural(max(ended, int(self.total)), 'trial')} done{elsewhere}; nothing to do"

    def suggest_precision(self, trainer: Trainer, job: Job) -> SpeedGain | None:
        """Show and return how much faster a job would train in another precision or layout."""
        with Guarded():
            gain = precision_advice(trainer, job)
        return self._log_gain(gain)

    def suggest_lanes(self, trainer: object, job: Job, left: float) -> SpeedGain | None:
        """Show once in a run, and return, how much faster lanes would train such jobs, if enough seconds are `left`."""
        if self._lanes_advised or left < ADVISED:
            return None
        self._lanes_advised = True
        return self._log_gain(lanes_advice(trainer, job))

    def _log_gain(self, gain: SpeedGain | None) -> SpeedGain | None:
        if gain is not None:
            self.log(str(gain))
        return gain

    def advise(self, record: Callable[[], StudyRecord]) -> None:
        """Show the first findings on a study at the end of a run that trained something and was not interrupted."""
        if not self._idle and not self._interrupted and (self._shown or log.isEnabledFor(logging.INFO)):
            for finding in first_advice(record()):
                self.log(f"advice  {finding}")

    def _line(self, trial: Trial) -> str:
        metrics, objective = trial.metrics, self._objective
        of = f" of {self.total}" if math.isfinite(self.total) else ""
        scores = [f"{metric} {number_text(metrics[metric])}" for metric in objective.metrics if metric in metrics]
        if metrics and objective.breach(metrics):
            scores.append("beyond the limits")
        spent = [plural(trial.epochs, "epoch"), f"{trial.seconds:.1f} s", self._runtime.label]
        if trial.extends and trial.parent is not None:
            of += f", which extends trial {trial.parent[0]}"
        return "  ".join(filter(None, [f"trial {trial.number}{of}", trial.status, *scores, *spent, trial.reason]))
