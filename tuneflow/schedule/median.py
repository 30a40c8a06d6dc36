"""The median stopping rule."""

import numpy as np
from typing_extensions import override

from tuneflow.history.history import History
from tuneflow.history.magnitude import magnitude, mean_of
from tuneflow.history.trial import Trial
from tuneflow.schedule.scheduler import Continue, Decision, Scheduler, Start, Stop
from tuneflow.space.search_space import SearchSpace
from tuneflow.validate import check_whole


class Median(Scheduler):
    """Trains every trial to its full length, unless it is worse than most others at the same epoch.

    A trial stops when its score is worse than the median of the mean scores that ended trials had up to the same epoch.

    Args:
        trials: number of trials that must have come as far before any is stopped, at least 1.
        epochs: number of epochs that every trial gets in any case, at least 1.

    Raises:
        ValueError: `trials` or `epochs` is below 1; when the study is made: it has several objectives, or
            one that only the last epoch reports.

    Example:
        >>> import tuneflow as tn
        >>> @tn.loop(epochs=9)
        ... def fit(config, run):
        ...     for epoch in run.epochs():
        ...         yield {"loss": config["x"] + 1 / epoch}
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> study = tn.Study(space=space, trainer=fit, scheduler=Median(trials=2), minimize="loss", progress=False)
        >>> study.run(trials=6)
        >>> study.trials[5].status, study.trials[5].reason
        ('STOPPED', 'worse than 5 of 5 at epoch 1')

    Source: Golovin et al., Google Vizier, KDD 2017, section 3.2.2.
    """

    def __init__(self, trials: int = 5, epochs: int = 1) -> None:
        self.trials, self.epochs = check_whole("Median: trials", trials), check_whole("Median: epochs", epochs)

    def check(self, history: History) -> None:
        if history.objective.several:
            raise ValueError(
                "Median: compares trials by one objective, got several; tn.Halving() and tn.Hyperband() promote by"
                " fronts, tn.Full() trains every trial."
            )
        if 1 < history.epochs <= history.objective.every:
            raise ValueError(
                f"Median: no report before the last, at epoch {history.epochs}, has {history.objective.rare}, so no"
                " trial would be stopped; use a metric with a smaller every, or tn.Full()."
            )

    @override
    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        for trial in (*history.running, *history.paused):
            reason = self._reason(history, trial) if self.epochs <= trial.epochs < history.epochs else ""
            if reason:
                return Stop(trial.number, reason)
        if history.paused:
            return Continue(history.paused[0].number, history.epochs)
        return Start(history.epochs)

    def _reason(self, history: History, trial: Trial) -> str:
        """Return the reason to stop `trial` now; empty when it should go on."""
        epoch = trial.epochs
        others = [t for t in history.finished if t.number != trial.number and t.epochs >= epoch]
        if len(others) < self.trials:
            return ""
        own = history.costs_at(epoch)[trial.number]
        means = np.array([_mean_cost(history, other, epoch) for other in others])
        unit = magnitude(means)
        if not own > np.median(means / unit) * unit:
            return ""
        return f"worse than {int((means < own).sum())} of {len(others)} at epoch {epoch}"


def _mean_cost(history: History, trial: Trial, epoch: int) -> float:
    objective, until = history.objective, [report for report in history.curve(trial) if report.epoch <= epoch]
    costs = [objective.cost(report.metrics) for report in until if objective.complete(report.metrics)]
    return mean_of(np.array(costs)) if costs else np.inf
