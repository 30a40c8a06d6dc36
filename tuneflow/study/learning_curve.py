"""Learning curve: the scores of one configuration trained on fewer rows, which tell what more of them would bring."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.score_text import value_text
from tuneflow.errors import StudyError, printable
from tuneflow.history.trial import Trial
from tuneflow.study.confirm import Looks
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.trainer import Trainer
from tuneflow.validate import check_whole

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training rows, where none are asked for
CLEAR = 2.0  # standard errors


@dataclass(frozen=True)
class LearningCurve:
    """Scores of one configuration by the number of rows that it was trained on; prints as a table.

    Attributes:
        metric: the objective.
        rows: numbers of training rows, ascending.
        points: the scores at each, over fresh seeds.
        sign: 1 where more of the metric is better, else -1.
    """

    metric: str
    rows: tuple[int, ...]
    points: tuple[Confirmed, ...]
    sign: int

    @property
    def scores(self) -> list[float]:
        """The objective at each number of rows; NaN where a training did not come to its end."""
        return [point.metrics.get(self.metric, math.nan) for point in self.points]

    @property
    def errors(self) -> list[float]:
        """The standard errors of `scores`, over the seeds; NaN where they are not known."""
        return [point.errors.get(self.metric, math.nan) for point in self.points]

    @property
    def gain(self) -> float:
        """The improvement from the last but one number of rows to the last."""
        return self.sign * (self.scores[-1] - self.scores[-2]) if len(self.rows) > 1 else math.nan

    @property
    def gain_error(self) -> float:
        """The standard error of `gain`."""
        return math.hypot(*self.errors[-2:]) if len(self.rows) > 1 else math.nan

    def __repr__(self) -> str:
        wide = max(len("rows"), *(len(str(rows)) for rows in self.rows))
        lines = [f"{rows:>{wide}}  {self._words(point)}" for rows, point in zip(self.rows, self.points, strict=True)]
        seeds = self.points[-1].seeds
        source = "the validation examples, 1 fresh seed" if seeds == 1 else f"{seeds} fresh seeds"
        title = f"{'rows':>{wide}}  {self.metric} +- standard error over {source}"
        return "\n".join(map(printable, [title, *lines, *self._verdict()]))

    def _words(self, point: Confirmed) -> str:
        return point.reason or value_text(self.metric, point.metrics, point.errors)

    def _verdict(self) -> list[str]:
        gain, error = self.gain, self.gain_error
        if not math.isfinite(gain) or not math.isfinite(error):
            return []
        step = f"from {self.rows[-2]} to {self.rows[-1]} rows it is {abs(gain):.4f} +- {error:.4f}"
        if gain > CLEAR * error:
            return [f"{step} better: more rows are likely to help"]
        if gain < -CLEAR * error:
            return [f"{step} worse: more rows do not help this configuration"]
        word = "better" if gain > 0 else "worse"
        return [f"{step} {word}, which is within its error: whether more rows help is not clear"]


Curve = Callable[[Sequence[int] | None, int], LearningCurve]


def curve_of(
    looks: Callable[[int], Looks],
    single: TrainerProtocol,
    trial: Trial,
    from_start: bool,
    rows: Sequence[int] | None,
    seeds: int,
) -> LearningCurve:
    """Train a trial's configuration on these numbers of rows, each once under every seed, and return the scores.

    Args:
        looks: returns what trains under fresh seeds, and keeps the results; called with the number of trainings.
        single: the trainer of one seed.
        trial: the trial.
        from_start: False where it went on from the state of one with another configuration.
        rows: numbers of training rows; None for an eighth, a quarter, a half and all of them.
        seeds: number of seeds.

    Raises:
        StudyError: the trainer has no setting `rows`, or the trial went on from another one's state.
        ValueError, TypeError: a number is not one of rows.
    """
    if not isinstance(single, Trainer) or "rows" not in single.tunable:
        raise StudyError(
            f"learning_curve needs a tn.Trainer, which can train on fewer rows, got {type(single).__name__}."
        )
    if not from_start:
        raise StudyError(
            f"learning_curve trains a configuration from its start, and trial {trial.number} went on from another"
            " trial's state; take one that did not, by study.result(number)."
        )
    numbers, seeds = _checked(rows, single.training_rows), check_whole("learning_curve: seeds", seeds)
    training = looks(len(numbers) * seeds)
    points = training.at_rows(trial, numbers, range(seeds))
    metric, up = training.objective.goals[0]
    return LearningCurve(metric, tuple(numbers), tuple(points), 1 if up else -1)


def _checked(rows: Sequence[int] | None, most: int) -> list[int]:
    if rows is None:
        return sorted({max(1, round(share * most)) for share in SHARES})
    if not isinstance(rows, list | tuple | range) or not rows:
        raise TypeError(f"learning_curve: rows needs a list of numbers of rows, such as [100, 200], got {rows!r}.")
    for number in rows:
        if check_whole("learning_curve: rows", number) > most:
            raise ValueError(f"learning_curve: there are {most} training rows, got rows={number}.")
    return sorted(set(rows))
