"""Population based training: the worst trials are replaced by changed copies of the best on the way."""

from collections.abc import Collection

import numpy as np

from tuneflow.errors import plural
from tuneflow.history.history import History
from tuneflow.history.trial import Trial
from tuneflow.schedule.scheduler import Continue, Decision, Fork, Scheduler, Start, Stop, Wait
from tuneflow.space.parameters import Float
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import check_positive, check_whole, is_number, shown

TRIES = 20  # changes that are drawn until one is allowed


class Population(Scheduler):
    """Trains a population side by side; every few epochs the worst quarter continues from the best quarter's states.

    All members train to the same epoch. Then each of the worst `share` ends, and a new trial in its place continues
    from the state of one of the best `share`, with slightly changed settings: every Float, such as a rate, momentum or
    dropout, takes a step in the unit cube. Parameters that decide shapes and kinds stay the parent's, as do settings of
    a Model's steps. A fork is a new trial and counts in `trials=`; without a trial left, none is replaced.

    Args:
        members: number of trials at a time, at least 4.
        every: epochs between two replacements, at least 1.
        share: share of the members that is replaced, and that is copied, above 0 and at most 0.5.
        step: standard deviation of the change of a setting, in the unit cube, above 0.

    Raises:
        ValueError: an argument is out of its range; when the study is made: it has several objectives, or `every`
            leaves no replacement within the full length, or comes to epochs that lack the objective.

    Example:
        >>> import tuneflow as tn
        >>> @tn.loop(epochs=4)
        ... def fit(config, run):
        ...     for epoch in run.epochs():
        ...         yield {"loss": config["x"] + 1 / epoch}
        >>> space = tn.SearchSpace(x=tn.Float(0.0, 1.0))
        >>> study = tn.Study(space=space, trainer=fit, scheduler=Population(members=4), minimize="loss", progress=False)
        >>> study.run(trials=6)
        >>> [trial.parent[1] for trial in study.trials if trial.parent]
        [1, 2]

    Source: Jaderberg et al., Population Based Training of Neural Networks, arXiv:1711.09846, 2017.
    """

    def __init__(self, members: int = 12, every: int = 1, share: float = 0.25, step: float = 0.1) -> None:
        self.members = check_whole("Population: members", members, 4)
        self.every = check_whole("Population: every", every)
        if not is_number(share) or not 0 < share <= 0.5:
            raise ValueError(f"Population: share needs to be a number above 0 and at most 0.5, got {shown(share)}.")
        check_positive("Population: step", step)
        self.share, self.step = share, step

    def check(self, history: History) -> None:
        if history.objective.several:
            raise ValueError(
                "Population: compares trials by one objective, got several; tn.Halving() and tn.Hyperband() promote by"
                " fronts, tn.Full() trains every trial."
            )
        if self.every >= history.epochs:
            raise ValueError(
                f"Population: every={self.every} leaves no replacement within the full"
                f" {plural(history.epochs, 'epoch')}; use a smaller one."
            )
        if self.every % history.objective.every:
            raise ValueError(
                f"Population: every={self.every} compares trials at epochs that lack {history.objective.rare}; use a"
                f" multiple of {history.objective.every}, as it is reported at each such epoch."
            )

    def next(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Decision:
        for trial in history.paused:
            if trial.epochs % self.every or trial.epochs >= history.epochs:  # it was interrupted
                return Continue(trial.number, self._after(history, trial.epochs))
        if len(history) < self.members and history.remaining > 0:
            return Start(self.every)
        if history.running or not history.paused:
            return Wait()  # all come to the same epoch before anyone goes on
        epoch = min(trial.epochs for trial in history.paused)
        here = self._ranked(history, epoch)
        count = int(self.share * len(here))  # so many are replaced, and as many are copied
        best, worst = here[: max(1, count)], here[len(here) - count :]
        replaced = [t for t in history.trials if t.parent is not None and t.parent[1] == epoch and not t.extends]
        vacant = sum(t.status == "STOPPED" for t in worst) + self._lost(history, epoch) - len(replaced)
        if vacant > 0 and history.remaining > 0 and best:
            parent = best[len(replaced) % len(best)]
            return Fork(
                parent.number, epoch, self._changed(space, history.settled, parent, rng), self._after(history, epoch)
            )
        for trial in worst:
            if trial.status == "PAUSED" and trial.epochs == epoch and history.remaining > 0:
                return Stop(trial.number, f"place {here.index(trial) + 1} of {len(here)} at epoch {epoch}: replaced")
        return Continue(min(t.number for t in history.paused if t.epochs == epoch), self._after(history, epoch))

    def _after(self, history: History, epoch: int) -> int:
        """Return the epoch of the next comparison."""
        return min(history.epochs, (epoch // self.every + 1) * self.every)

    def _ranked(self, history: History, epoch: int) -> list[Trial]:
        """Return the trials that were trained to this epoch, the best first."""
        here = [
            trial
            for trial in history.trials
            if not trial.extends and any(report.epoch == epoch for report in trial.reports)
        ]
        return sorted(here, key=lambda trial: (_cost(history, trial, epoch), trial.number))

    def _lost(self, history: History, epoch: int) -> int:
        """Return the number of trials that failed or diverged since the last comparison."""
        since = epoch - self.every
        return sum(t.status in ("FAILED", "DIVERGED") and since <= t.epochs < epoch for t in history.trials)

    def _changed(self, space: SearchSpace, settled: Collection[str], parent: Trial, rng: np.random.Generator) -> Config:
        """Return the parent's configuration with a step for every Float that may move; unchanged where none is allowed.

        Args:
            space: the study's.
            settled: sections that stay as they are.
            parent: the trial that is copied.
            rng: draws the steps.
        """
        unit = space.to_unit(parent.config)
        free = [isinstance(c.parameter, Float) and c.path[0] not in settled for c in space.coordinates]
        moves = np.array(free, dtype=bool) & np.isfinite(unit)
        kept = {name: section for name, section in parent.config.items() if name in settled}  # to the last bit
        for _ in range(TRIES):
            moved = np.where(moves, unit + self.step * rng.standard_normal(len(unit)), unit)
            inside = 1 - np.abs(1 - np.abs(moved) % 2)  # reflected at the borders
            config = {**space.from_unit(inside), **kept}
            if space.allows(config):
                return config
        return parent.config


def _cost(history: History, trial: Trial, epoch: int) -> float:
    """Return a trial's cost at this epoch, lower is better."""
    report = next(report for report in trial.reports if report.epoch == epoch)
    return history.objective.cost(report.metrics)
