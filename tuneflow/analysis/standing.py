"""The groups of trials that charts tell apart, and their positions by score."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.ties import ties_of
from tuneflow.history.trial import WORTHLESS
from tuneflow.markup.scales import Axis, score_axis
from tuneflow.space.coordinates import Array


@dataclass(frozen=True)
class Standing:
    """The ended trials of a study by the score of one objective.

    Args:
        record: the study's.
        goal: index of the objective.
    """

    record: StudyRecord
    goal: int = 0

    @cached_property
    def scores(self) -> Array:
        """Scores in units of the metric, shape (n,); NaN without one."""
        history = self.record.history
        return history.values.reshape(len(history), len(self.record.objective.goals))[:, self.goal]

    @cached_property
    def axis(self) -> Axis:
        """The scale of the scores, on which better ones are higher."""
        maximize = self.record.objective.goals[self.goal][1]
        return self.plain_axis if maximize else self.plain_axis.flipped

    @cached_property
    def plain_axis(self) -> Axis:
        """The scale of the scores, on which larger ones are higher."""
        return score_axis(self.scores.tolist(), self.record.objective.goals[self.goal][1])

    @cached_property
    def best(self) -> list[int]:
        """Numbers of the best trial and those that tie with it, or of the front."""
        if self.record.objective.several:
            return [trial.number for trial in self.record.history.front]
        ties, leader = ties_of(self.record), self.record.history.leader
        if ties is not None:
            return list(ties.numbers)
        return [] if leader is None else [leader.number]

    @cached_property
    def worthless(self) -> list[int]:
        """Numbers of the trials that ended without a score."""
        return [trial.number for trial in self.record.trials if trial.status in WORTHLESS]

    @cached_property
    def heights(self) -> list[float]:
        """Positions of the scores from the worst to the best, from 0 to 1, by number; 0 without a score."""
        return [self.axis.position(score) for score in self.scores.tolist()]

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Numbers of the trials with a score by their class in the style of charts, the most important ones last."""
        best, trials = set(self.best), self.record.trials
        others = [number for number in np.flatnonzero(np.isfinite(self.scores)).tolist() if number not in best]
        stopped = [number for number in others if trials[number].status == "STOPPED"]
        done = [number for number in others if trials[number].status != "STOPPED"]
        return {"stopped": stopped, "": done, "best": sorted(best)}


def known(numbers: Iterable[int], *columns: Array) -> list[int]:
    """Return those trials that have a value in each of the columns."""
    return [number for number in numbers if all(np.isfinite(column[number]) for column in columns)]
