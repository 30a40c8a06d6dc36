"""History: the append-only log of a study's trials, which searchers and schedulers decide by."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tuneflow.errors import NothingFinished, StudyError, plural
from tuneflow.history.columns import Columns
from tuneflow.history.fragments import history_parts, trials_fragment
from tuneflow.history.objective import Objective
from tuneflow.history.trainings import Trainings
from tuneflow.history.trial import Trial, has_score
from tuneflow.markup.fragment import fragment
from tuneflow.space.search_space import Config, SearchSpace

OPEN_END = 10**9  # the full length of trials that have none: farther than any is trained

NOT_RANKED = (math.inf, -1)  # a configuration without a score within the limits


class History(Columns):
    """All trials of a study; searchers and schedulers read it and never change it.

    `trials`, `finished`, `running` and `paused` are views of the trials; `costs`, `values`, `units` and their kin are
    the same facts as arrays.

    Args:
        space: the study's search space.
        objective: the metrics to tune for.
        seed: the study's seed, for sequences that belong to the whole study.
        epochs: the full length of a trial; None for an open end, by which `epochs` is OPEN_END.

    Attributes:
        epochs: the full length of a trial.
        number: the number of the trial that is being proposed.
        remaining: number of trials that the run may still start; `inf` without a limit.
        grown: number of trials that there were when the study's space grew last; 0 where it never did.
        trainings: which trials train the same configuration.
        settled: sections of the space that a fork of a trial takes over, as what they decided is in the trial's state:
            those of a Model's steps.
        prober: the function behind `probe`; None where there is no model to measure.
    """

    def __init__(self, space: SearchSpace, objective: Objective, seed: int = 0, epochs: int | None = 1) -> None:
        super().__init__(space, objective)
        self.seed, self.epochs = seed, OPEN_END if epochs is None else epochs
        self.number = 0
        self.remaining = math.inf
        self.grown = 0
        self.settled: Collection[str] = ()
        self.prober: Callable[[Config], Any] | None = None
        self._view = Trials(self._trials, None)
        self._live: dict[str, dict[int, None]] = {"RUNNING": {}, "PAUSED": {}, "CLAIMED": {}}  # numbers by status
        self.trainings = Trainings(self._trials)
        self._ranked: dict[int, tuple[float, int]] = {}  # (cost, number) of the first trials of configurations
        self._leader: tuple[float, int] | None = None  # the least of these
        self._extending: dict[int, None] = {}  # numbers of the live trials that extend others
        self._improved = 0  # number of ended trials when the best one had ended

    def record(self, trial: Trial) -> None:
        """Add a trial, or replace the one of this number; called by the study only.

        A number that was skipped is taken to be claimed by another process until it is recorded itself.
        """
        number = trial.number
        while number > len(self._trials):
            self.record(Trial(len(self._trials), {}, "CLAIMED"))
        if number == len(self._trials):
            self._trials.append(trial)
            self.number = number + 1
        else:
            before = self._trials[number]
            if before.ended:
                return
            self._live_like(before).pop(number, None)
            self._trials[number] = trial
        self._update(trial)
        self.trainings.add(trial)
        if trial.ended:
            self._finish(trial)
        else:
            self._live_like(trial)[number] = None

    def _live_like(self, trial: Trial) -> dict[int, None]:
        return self._extending if trial.extends else self._live[trial.status]

    def _finish(self, trial: Trial) -> None:
        self._finished.append(trial.number)
        if not trial.extends:
            self._observed.append(trial.number)
        if self.objective.several:
            return
        first = trial.number if trial.repeats is None else trial.repeats
        self._ranked.pop(first, None)
        if self.within(trial):
            self._ranked[first] = self.cost(trial), first
        before, own = self._leader, self._ranked.get(first, NOT_RANKED)
        if before is None or own < before:
            self._leader = own if own is not NOT_RANKED else None
            self._improved = len(self._finished) if self._leader else self._improved
        elif before[1] == first and own != before:  # the mean of the best has become worse
            self._leader = min(self._ranked.values(), default=None)

    def within(self, trial: Trial) -> bool:
        """True for a trial that has a score and is within the limits, where there are some."""
        return math.isfinite(self.cost(trial)) and not self.objective.breach(self.trainings.mean(trial).metrics)

    def rank(self, trial: Trial) -> tuple[float, float]:
        """Return the sort key of trials, the best first: the breach of limits, then the cost."""
        mean = self.trainings.mean(trial)
        return self.objective.rank(mean.metrics) if has_score(mean) else (math.inf, math.inf)

    def cost(self, trial: Trial) -> float:
        """Return the trial's score, lower is better; `inf` where it diverged, failed or has none.

        The score of a configuration that was trained several times is the mean over these trials.
        """
        mean = self.trainings.mean(trial)
        return self.objective.cost(mean.metrics) if has_score(mean) else math.inf

    def __len__(self) -> int:
        return len(self._trials)

    def __repr__(self) -> str:
        return f"History({self.ended} of {plural(len(self), 'trial')} ended)"

    def _repr_html_(self) -> str:
        return fragment(f"{self.ended} of {plural(len(self), 'trial')} ended", *history_parts(self))

    def probe(self, config: Config) -> Any:
        """Return what `tn.probe` measures of this configuration's structure, a tn.Probe.

        Measured on first use and kept with the study, so a resumed one does not measure again. Configurations that
        differ in Floats only are of one structure, but for Floats of a Model's steps, in eighths of their range.

        Raises:
            StudyError: the study has no model and Trainer to measure; `prober` is None.
        """
        if self.prober is None:
            raise StudyError("there is nothing to probe: the study has no tn.Model and tn.Trainer.")
        return self.prober(config)

    @property
    def open_end(self) -> bool:
        """True where trials have no full length: they are asked for, and end when they are told to."""
        return self.epochs >= OPEN_END

    @property
    def trials(self) -> "Trials":
        """Every trial, by number; always the same view, by which searchers know the history of their caches."""
        return self._view

    @property
    def finished(self) -> "Trials":
        """Trials that ended, in the order in which they ended; the diverged and failed among them."""
        return Trials(self._trials, self._finished)

    @property
    def observed(self) -> "Trials":
        """The ended trials that searchers learn from, in the order of their ends: all but those that extend others."""
        return Trials(self._trials, self._observed)

    @property
    def extending(self) -> "Trials":
        """Trials under way that extend others: `study.extend` trains them, so no scheduler decides on them."""
        return Trials(self._trials, list(self._extending))

    def origin(self, trial: Trial) -> Trial:
        """Return the trial that this one extends, at first or second hand; itself unless it extends another."""
        while trial.extends and trial.parent is not None:
            trial = self._trials[trial.parent[0]]
        return trial

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return len(self._finished)

    @property
    def running(self) -> "Trials":
        """Trials that are being trained."""
        return Trials(self._trials, list(self._live["RUNNING"]))

    @property
    def paused(self) -> "Trials":
        """Trials that wait for a decision to continue or stop."""
        return Trials(self._trials, list(self._live["PAUSED"]))

    @property
    def claimed(self) -> int:
        """Number of claimed trials, which have a number and no configuration yet."""
        return len(self._live["CLAIMED"])

    @property
    def unknown(self) -> list[int]:
        """Numbers below `number` whose configurations are not known yet, as other processes have claimed them."""
        claimed = sorted(number for number in self._live["CLAIMED"] if number < self.number)
        return [*claimed, *range(len(self), self.number)]

    @property
    def leader(self) -> Trial | None:
        """The same as `best`; None where that would raise."""
        return None if self._leader is None else self.trainings.mean(self._trials[self._leader[1]])

    @property
    def stale(self) -> int:
        """Number of trials that have ended since the best one has; all of them where there is none."""
        return len(self._finished) - self._improved

    @property
    def best(self) -> Trial:
        """The finished trial with the best score, of those within the limits; the earliest of equals.

        A configuration that was trained several times has the mean as its score, with its standard error.

        Raises:
            NothingFinished: no trial has a score yet, or none is within the limits.
            StudyError: there are several objectives; `front` is what they have.
        """
        if self.objective.several:
            names = " and ".join(metric for metric, _ in self.objective.goals)
            raise StudyError(f"there is no single best trial for {names}; see front.")
        best = self.leader
        if best is None:
            raise NothingFinished(self.missing)
        return best

    @property
    def missing(self) -> str:
        """The reason why no trial is the best, as a message."""
        nearest = min(filter(has_score, self.finished), key=self.rank, default=None)
        if nearest is not None and self.objective.limits and math.isfinite(self.cost(nearest)):
            limits = " and ".join(str(limit) for limit in self.objective.limits)
            metrics = ", ".join(f"{limit.metric} {nearest.metrics[limit.metric]:g}" for limit in self.objective.limits)
            return f"no finished trial has {limits}; trial {nearest.number} comes closest, with {metrics}."
        if not len(self):
            return "no trial has a score yet, as none was started; call run(trials=...), or ask and tell."
        last = self._trials[self._finished[-1]] if self._finished else None
        reason = "" if last is None else f"; trial {last.number} {last.status}: {last.reason}"
        paused = f", {len(self.paused)} paused" if len(self.paused) else ""
        return f"no finished trial has a score yet ({self.ended} of {len(self)} ended{paused}{reason})."

    @property
    def front(self) -> list[Trial]:
        """The finished trials within the limits that no other one of them beats in every objective, by number.

        Of trials that are equal in all of them it has the first. With one objective, the best.
        """
        means = {mean.number: mean for mean in map(self.trainings.mean, self.finished)}
        scored = [t for t in means.values() if has_score(t) and not self.objective.breach(t.metrics)]
        scored.sort(key=lambda t: t.number)
        costs = np.array([self.objective.costs(t.metrics) for t in scored])
        costs = costs.reshape(len(scored), len(self.objective.goals))
        beaten = [bool(((costs <= own).all(1) & (costs < own).any(1)).any()) for own in costs]
        equal = [bool((costs[:place] == own).all(1).any()) for place, own in enumerate(costs)]
        return [t for t, lost, same in zip(scored, beaten, equal, strict=True) if not lost and not same]


class Trials(Sequence[Trial]):
    """A read-only view of some trials, or of all of them, without a copy."""

    def __init__(self, trials: list[Trial], numbers: Sequence[int] | None) -> None:
        self._trials, self._numbers = trials, numbers

    def __len__(self) -> int:
        return len(self._trials if self._numbers is None else self._numbers)

    @property
    def numbers(self) -> NDArray[np.intp]:
        """The trials' numbers, in the order of the view."""
        return np.array(range(len(self)) if self._numbers is None else self._numbers, dtype=np.intp)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if self._numbers is None:
            return self._trials[index]
        if isinstance(index, slice):
            return [self._trials[i] for i in self._numbers[index]]
        return self._trials[self._numbers[index]]

    def __repr__(self) -> str:
        return f"<{len(self)} trials>"

    def _repr_html_(self) -> str:
        return trials_fragment(self)
