"""The status of a run, from the trials of its study."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tuneflow.analysis.remaining import epochs_left
from tuneflow.analysis.score_text import rounded_text
from tuneflow.errors import plural
from tuneflow.history.history import History
from tuneflow.history.trial import Report, Trial
from tuneflow.pages.status import Status, TimeLeft, epochs_text


@dataclass
class RunStatus:
    """The status of a run, and what ends it.

    Attributes:
        history: its trials.
        total: number of trials that it ends with; inf without a limit.
        epochs: most epochs of the study in all; inf for no limit.
        deadline: its end on time.monotonic()'s clock, in seconds; inf for no limit.
        earlier: True if it may end before all that, at a score that is good enough.
        before: epochs that the study had when it began.
        began: when its first epoch did, on the same clock; until there is one, when the run did. Worker processes take
            their time to start.
    """

    history: History
    total: float = math.inf
    epochs: float = math.inf
    deadline: float = math.inf
    earlier: bool = False
    before: int = field(init=False)
    began: float = field(default_factory=time.monotonic)
    _reported: bool = False

    def __post_init__(self) -> None:
        self.before = _epochs_of(self.history)

    def status(self) -> Status:
        """Return the status as it is now."""
        history, trained, now = self.history, _epochs_of(self.history), time.monotonic()
        if trained > self.before and not self._reported:
            self.began, self._reported = now - _last_report(history).seconds, True
        left = self._left(trained)
        budget = max(0.0, self.deadline - now)
        pace = TimeLeft(max(0, trained - self.before), left, now - self.began, budget, self.earlier)
        share = trained / (trained + left) if trained and math.isfinite(left) else history.ended / max(1.0, self.total)
        epochs = "" if history.epochs == 1 else epochs_text(trained, left, self._estimated)
        shown = (*_best(history), *_training(history, pace.slow), epochs, pace.words)
        return Status(self._done, *shown, share)

    def outcome(self) -> History:
        """Return the trials."""
        return self.history

    @property
    def _done(self) -> str:
        ended = self.history.ended
        return f"{ended}/{self.total:.0f}" if math.isfinite(self.total) else plural(ended, "trial")

    @property
    def _estimated(self) -> bool:
        """True once trials have come to an end, or wait, before the full length."""
        full = {*self.history.lengths, self.history.epochs}
        return any(t.epochs not in full and (t.ended or t.status == "PAUSED") for t in self.history.trials)

    def _left(self, trained: int) -> float:
        """Return about how many epochs are to come; NaN where nothing tells."""
        left, limit = epochs_left(self.history, self.total), max(0.0, self.epochs - trained)
        return limit if left != left and math.isfinite(limit) else min(left, limit)


def _epochs_of(history: History) -> int:
    return sum(trial.epochs - (trial.parent[1] if trial.parent else 0) for trial in history.trials)


def _last_report(history: History) -> Report:
    """Return the report that came in last."""
    reports = [trial.reports[-1] for trial in history.trials if trial.reports]
    return max(reports, key=lambda report: report.at, default=Report(0, {}))


def _best(history: History) -> tuple[str, str]:
    """Return the best score, and whose it is."""
    objective, leader = history.objective, None if history.objective.several else history.leader
    if objective.several:
        count = len(history.front)
        return f"{count} on the front" if count else "", ""
    if leader is not None:
        error = leader.errors.get(objective.metric, 0.0)
        return f"best {rounded_text(leader.metrics[objective.metric], error, '+-')}", f"(trial {leader.number})"
    scored = objective.limits and any(trial.metrics for trial in history.finished)
    return "none within the limits" if scored else "", ""


def _training(history: History, slow: bool) -> tuple[str, str]:
    """Return what is under way, and its last score; of several the best one."""
    running = [*history.running, *(trial for trial in history.extending if trial.status == "RUNNING")]
    if not running:
        return "", ""
    best = min(running, key=lambda trial: _rank(trial, history))
    full = "" if history.open_end else f"/{history.epochs}"
    epoch = "" if history.epochs == 1 else f": epoch {min(best.epochs + 1, history.epochs)}{full}"
    trial = f"{len(running)} in training, the best of them" if len(running) > 1 else "training"
    since = f" since {time.strftime('%H:%M:%S')}" if slow and len(running) == 1 else ""
    return f"{trial} {best.number}{epoch}{since}", ", ".join(_scores(best, history.objective.metrics))


def _rank(trial: Trial, history: History) -> tuple[float, ...]:
    """Return the sort key of trials under way: the best score so far, else the most epochs."""
    if not trial.metrics:
        return math.inf, math.inf, -trial.epochs
    return *history.objective.rank(trial.metrics), 0


def _scores(trial: Trial, metrics: list[str]) -> Iterator[str]:
    for last in trial.reports[-1:]:
        for name in metrics:
            if name in last.metrics:
                value, *_ = rounded_text(last.metrics[name], last.errors.get(name, 0.0)).split()
                yield f"{name} {value}"
