"""The check of a slice: its reports, its end and the state after it, compared with those of training it again."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tuneflow.errors import CheckpointError, StudyError, plural
from tuneflow.execute.executor import Ended
from tuneflow.history.history import History
from tuneflow.history.trial import Report, Slice, Trial
from tuneflow.store.checkpoints import States
from tuneflow.study.replay.agreement import STATE, Gap, gaps_between, verdict_of
from tuneflow.study.replay.replay_slices import ends_itself, length_of
from tuneflow.study.replay.replayed import ReplayedSlice
from tuneflow.study.replay.retraining import Retrained, Retraining
from tuneflow.study.replay.state_difference import state_difference
from tuneflow.study.taken_measures import TakenMeasures
from tuneflow.train.job import TrainState

SHOWN = 3  # gaps of a slice
REPETITIONS = 3  # with noise


@dataclass(frozen=True)
class SliceCheck:
    """Trains slices of trials again and compares.

    Args:
        retraining: trains them.
        history: the study's.
        states: those that are kept.
        measures: takes the measures of the modules' structures anew; None where there is none to take.
        steps: name to the step that a metric moves in.
    """

    retraining: Retraining
    history: History
    states: States
    measures: TakenMeasures | None
    steps: Mapping[str, float]

    def __call__(self, work: Slice) -> ReplayedSlice:
        """Return the outcome of a slice."""
        trial, words = self.history.trials[work.trial], words_of(work)
        reports = [report for report in trial.reports if work.start < report.epoch <= work.until]
        if [report.epoch for report in reports] != list(range(work.start + 1, work.until + 1)):
            return differing(words, "not every epoch has a report, in order")
        last = work.until == trial.epochs
        if last and (wrong := self._wrong_end(trial)):
            return differing(words, wrong)
        further = int(last and ends_itself(trial, self.history))
        try:
            trained = self.retraining.of(work, further)
        except StudyError as error:
            return differing(words, str(error))
        trained = trained if self.measures is None else self._measured(trained, trial)
        if len(trained.reports) < len(reports) or (not further and trained.end.status != "DONE"):
            return differing(
                words, f"trained again it ends after epoch {_reached(trained, work)}: {_words(trained.end)}"
            )
        try:
            gaps = self._gaps(work, reports, trained)
        except CheckpointError as error:
            return differing(words, str(error))
        precision = self.retraining.job(trial).runtime.precision
        noise = noise_gaps(gaps, trained, lambda number: self.retraining.of(work, noise=number), self.steps)
        found = finding_of(words, gaps, noise, precision)
        return _with_end(found, trial, trained.end) if further and found.verdict != "differs" else found

    def _gaps(self, work: Slice, reports: Sequence[Report], trained: Retrained) -> list[Gap]:
        gaps = gaps_between(reports, trained.reports[: len(reports)], self.steps)
        stored = self._state_after(work)
        if stored is not None and trained.last is not None:
            gaps.append(state_gap(stored, trained.last.state))
        return gaps

    def _state_after(self, work: Slice) -> TrainState | None:
        """Return the state that is kept after a slice; None where there is none.

        Raises:
            CheckpointError: its file is damaged.
        """
        try:
            return self.states.get(work.trial, work.until) if work.until in self.states.epochs(work.trial) else None
        except CheckpointError:
            if work.until in self.states.epochs(work.trial):  # else it was removed meanwhile
                raise
            return None

    def _measured(self, trained: Retrained, trial: Trial) -> Retrained:
        """Return what was trained with the measures of the structure in its reports."""
        assert self.measures is not None
        if trained.last is None:
            return trained
        parts = (self.retraining.trainer, self.retraining.job(trial))
        completed = self.measures.completed(trained.last, *parts)
        if isinstance(completed, Ended):
            return replace(trained, end=completed)
        metrics = {name: value for name, value in completed.metrics.items() if name not in trained.last.report.metrics}
        errors = {name: completed.errors[name] for name in metrics if name in completed.errors}
        reports = [
            replace(report, metrics={**report.metrics, **metrics}, errors={**report.errors, **errors})
            for report in trained.reports
        ]
        return replace(trained, reports=reports)

    def _wrong_end(self, trial: Trial) -> str:
        """Return what is wrong with the status of an ended trial, of which nothing needs to be trained."""
        full = length_of(trial, self.history)
        if trial.status == "DONE" and trial.epochs < full:
            return f"it is DONE after {trial.epochs} of {plural(full, 'epoch')}"
        if trial.status in ("DONE", "DIVERGED") and trial.epochs >= full:
            selected = self.history.objective.pick(trial.reports)
            values = [] if selected is None else [selected.metrics[name] for name, _ in self.history.objective.goals]
            finite = all(map(math.isfinite, values))
            if values and finite is not (trial.status == "DONE"):
                return f"it is {trial.status}, and its score is {'' if finite else 'not '}finite"
        return ""


def noise_gaps(
    gaps: Sequence[Gap], trained: Retrained, again: Callable[[int], Retrained], steps: Mapping[str, float]
) -> list[Gap]:
    """Return the gaps between a repetition of a slice and others with noise; none where they are not needed.

    Args:
        gaps: of the slice.
        trained: its repetition.
        again: trains it with the noise of a number.
        steps: name to the step that a metric moves in.
    """
    if not any(gap.size > 0 for gap in gaps):
        return []
    return [gap for number in range(REPETITIONS) for gap in _gaps_of(trained, again(number), steps)]


def _gaps_of(one: Retrained, other: Retrained, steps: Mapping[str, float]) -> list[Gap]:
    """Return the gaps between two repetitions of a slice, and between the states after them."""
    count = min(len(one.reports), len(other.reports))
    gaps = gaps_between(one.reports[:count], other.reports[:count], steps)
    if one.last is not None and other.last is not None:
        gaps.append(state_gap(one.last.state, other.last.state))
    return gaps


def state_gap(stored: TrainState, trained: TrainState) -> Gap:
    """Return the gap between two states."""
    size = state_difference(stored, trained)
    return Gap(stored.epoch, STATE, 0.0, size, size)


def finding_of(words: str, gaps: Sequence[Gap], noise: Sequence[Gap], precision: str) -> ReplayedSlice:
    """Return the outcome of a slice, named by `words`, whose numbers are so far from those of its repetition."""
    verdict, shown = verdict_of(gaps, noise, precision)
    size = max((gap.size for gap in gaps), default=0.0)
    if verdict == "drift":
        largest = max(shown, key=lambda gap: gap.size)
        return ReplayedSlice(words, verdict, f"by {size:.1e} at most, in {largest.name} at epoch {largest.epoch}", size)
    shown = sorted(shown, key=lambda gap: (gap.epoch, -gap.size))
    more = f"; {plural(len(shown) - SHOWN, 'more number')}" if len(shown) > SHOWN else ""
    return ReplayedSlice(words, verdict, "; ".join(map(str, shown[:SHOWN])) + more, size)


def differing(words: str, reason: str) -> ReplayedSlice:
    """Return the finding that a slice differs by more than numbers."""
    return ReplayedSlice(words, "differs", reason, math.inf)


def words_of(work: Slice) -> str:
    """Return a slice in words: `trial 3, epochs 4 to 9`."""
    if work.until - work.start > 1:
        return f"trial {work.trial}, epochs {work.start + 1} to {work.until}"
    return f"trial {work.trial}, epoch {max(work.until, work.start + 1)}"


def _with_end(found: ReplayedSlice, trial: Trial, end: Ended) -> ReplayedSlice:
    """Return a finding that also says how the slice ended, where that is not as it ended first."""
    if end.status == trial.status:
        return found
    again = f"it is {trial.status} ({trial.reason}), and trained again it is not: {_words(end)}"
    if trial.status == "FAILED":  # a failure of the machine or of a connection need not come again
        return replace(found, verdict="open", reason=again)
    return replace(found, verdict="differs", reason=again, size=math.inf)


def _words(end: Ended) -> str:
    return f"{end.status} ({end.reason})" if end.reason else "it goes on"


def _reached(trained: Retrained, work: Slice) -> int:
    return work.start + len(trained.reports)
