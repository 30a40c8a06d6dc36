"""Hyperband, asynchronous and by resume: several halvings side by side."""

import math
from functools import lru_cache

from tuneflow.history.history import History
from tuneflow.schedule.halving import Halving


class Hyperband(Halving):
    """Halving with several first rungs, for problems where it is unknown how early a bad trial shows.

    Trials are assigned to brackets by their number, more to those that begin with a short rung, so that each bracket
    gets about the same number of epochs. Within its bracket a trial competes as under Halving and resumes from its
    state.

    Args:
        factor: number of trials that compete for one place at the next rung, at least 2.
        first: epochs of the shortest rung, at least 1.

    Raises:
        ValueError: `factor` or `first` is too small; when the study is made: no rung is below the full length.

    Example:
        >>> import tuneflow as tn
        >>> @tn.loop(epochs=9)
        ... def fit(config, run):
        ...     for epoch in run.epochs():
        ...         yield {"loss": config["x"] + 1 / epoch}
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> study = tn.Study(space=space, trainer=fit, scheduler=Hyperband(), minimize="loss", progress=False)
        >>> study.run(trials=17)
        >>> Hyperband().brackets(9), sum(trial.status == "DONE" for trial in study.trials) >= 3
        ([[1, 3, 9], [3, 9], [9]], True)

    Source: Li et al., Hyperband, JMLR 18, 2018; asynchronous as in Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020.
    """

    def check(self, history: History) -> None:
        if history.open_end:
            raise ValueError(
                "Hyperband: its brackets are shares of the full length, and trials of ask have an open end here; give"
                " tn.Study(epochs=...), or use tn.Halving()."
            )
        super().check(history)

    def brackets(self, epochs: int) -> list[list[int]]:
        """The rungs of each bracket, the shortest first: `[[1, 3, 9], [3, 9], [9]]` for 9 epochs."""
        count = max(0, int(math.log(epochs / self.first, self.factor) + 1e-9))
        rungs = [math.ceil(epochs / self.factor**k) for k in range(count, -1, -1)]
        return [rungs[start:] for start in range(len(rungs))]

    def bracket(self, number: int, epochs: int) -> int:
        """The index of the bracket that the trial of this number is in."""
        dealt = _dealt(len(self.brackets(epochs)), self.factor)
        return dealt[number % len(dealt)]


@lru_cache
def _dealt(count: int, factor: int) -> tuple[int, ...]:
    """Return the brackets of the first trials, after which the sequence repeats."""
    sizes = [math.ceil(count / (count - place) * factor ** (count - 1 - place)) for place in range(count)]
    return tuple(place for place, size in enumerate(sizes) for _ in range(size))
