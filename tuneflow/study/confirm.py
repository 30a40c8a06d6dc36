"""Confirm: the best configurations trained anew under fresh seeds, so that the score of the chosen one is no luck."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Executor, Reported
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import WORTHLESS, Slice, Trial
from tuneflow.space.search_space import Config
from tuneflow.store.store import Store
from tuneflow.study.ledger import CHOICE
from tuneflow.train.job import Job
from tuneflow.train.protocol import TrainerProtocol


@dataclass(frozen=True)
class Confirmed:
    """What a trial's configuration gives under fresh seeds.

    Attributes:
        number: the trial's.
        config: its configuration.
        metrics, errors: mean and standard error over the seeds; with one seed the trainer's own errors.
        seeds: under how many.
        reason: why there is no score; empty where there is one.
        ended: how many trials had ended when it was chosen; 0 for one that was not.
    """

    number: int
    config: Config
    metrics: Mapping[str, float]
    errors: Mapping[str, float]
    seeds: int
    reason: str = ""
    ended: int = 0

    def __repr__(self) -> str:
        return self.words(self.metrics)

    def words(self, metrics: Iterable[str]) -> str:
        """Its scores in some of the metrics, or why there are none."""
        scores = [f"{name} {self.metrics[name]:.4f}{_doubt(self.errors, name)}" for name in metrics if not self.reason]
        return f"trial {self.number}: {', '.join(scores) or self.reason} ({plural(self.seeds, 'fresh seed')})"


@dataclass(frozen=True)
class Look:
    """One training of a trial's configuration under a fresh seed, to the epoch that spoke for the trial."""

    number: int
    seed: int
    epoch: int

    @property
    def key(self) -> str:
        return f"look {self.number} {self.seed} {self.epoch}"


class Looks:
    """Trainings under fresh seeds; each is made once and kept with the study.

    Args:
        executor: makes the executor that they are trained by.
        job: the job of a trial under a seed, both by number.
    """

    def __init__(
        self,
        store: Store,
        objective: Objective,
        executor: Callable[[], Executor],
        trainer: TrainerProtocol,
        job: Callable[[int, int], Job],
    ) -> None:
        self._store, self._objective = store, objective
        self._executor, self._trainer, self._job = executor, trainer, job

    def of(self, trials: Sequence[Trial], seeds: range) -> list[Confirmed]:
        """What each of the trials gives under these seeds."""
        epochs = {trial.number: spoken.epoch for trial in trials if (spoken := self._objective.pick(trial.reports))}
        looks = {trial.number: [Look(trial.number, seed, epochs[trial.number]) for seed in seeds] for trial in trials}
        found = self._taken([look for row in looks.values() for look in row])
        return [_summary(trial, [found[look] for look in looks[trial.number]]) for trial in trials]

    def _taken(self, wanted: Sequence[Look]) -> dict[Look, dict[str, Any]]:
        """For each: its `metrics` and `errors`, or the `reason` why there are none."""
        known = {look: kept for look in wanted if (kept := self._store.recall(look.key)) is not None}
        new = [look for look in wanted if look not in known]
        jobs = [(self._job(look.number, look.seed), look.epoch) for look in new]
        for place, last, end in trained(self._executor, self._trainer, jobs):
            found = self._told(last, end)
            known[new[place]] = found if end.status == "FAILED" else self._store.remember(new[place].key, found)
        return known

    def _told(self, last: Reported | None, end: Ended) -> dict[str, Any]:
        if end.status in WORTHLESS or last is None:
            return {"reason": f"{end.status}: {end.reason}"}
        report = last.report
        bad = [m for m, _ in self._objective.goals if not math.isfinite(report.metrics[m])]
        if bad:
            return {"reason": f"DIVERGED: {bad[0]} is {report.metrics[bad[0]]} at epoch {report.epoch}"}
        return {"reason": "", "metrics": dict(report.metrics), "errors": dict(report.errors)}


def choose(
    looks: Looks, history: History, ranked: Sequence[int], top: int, seeds: int, say: Callable[[str], None]
) -> Confirmed:
    """The best of the `top` trials under `seeds` fresh seeds, with its score under as many others.

    The other seeds had no part in the choice, so the score is not too good for having been chosen by.

    Raises:
        StudyError: there is nothing to choose from, or no training came to its end.
    """
    objective, trials = history.objective, candidates(history, ranked, top)
    judged = looks.of(trials, range(seeds))
    for trial, found in zip(trials, judged, strict=True):
        observed = trial.metrics[objective.metric]
        say(f"confirm  {found.words(objective.metrics)}, observed {observed:.4f}")
    able = [found for found in judged if not found.reason]
    if not able:
        raise StudyError(f"confirm: no training under a fresh seed came to its end; {judged[0]!r}.")
    won = min(able, key=lambda found: objective.rank(found.metrics))
    (chosen,) = looks.of([history.trials[won.number]], range(seeds, 2 * seeds))
    if chosen.reason:
        raise StudyError(f"confirm: {chosen!r}: under another seed it does not come to its end.")
    say(f"confirm  chosen {chosen.words(objective.metrics)}, of other seeds")
    return replace(chosen, ended=history.ended)


def trained(
    executor: Callable[[], Executor], trainer: TrainerProtocol, jobs: Sequence[tuple[Job, int]]
) -> Iterator[tuple[int, Reported | None, Ended]]:
    """Train every job to its epoch, from the start: (place, its last epoch, how it ended), as they end."""
    if not jobs:
        return
    waiting, last, hands = deque(range(len(jobs))), dict[int, Reported](), executor()
    try:
        while waiting or hands.busy:
            while waiting and hands.free:
                place = waiting.popleft()
                job, until = jobs[place]
                hands.submit(Slice(place, 0, until), trainer, job, None)
            for event in hands.wait():
                if isinstance(event, Reported):
                    last[event.trial] = event
                else:
                    yield event.trial, last.pop(event.trial, None), event
    finally:
        hands.close()


def candidates(history: History, ranked: Sequence[int], top: int) -> list[Trial]:
    """The first `top` of the `ranked` trials that can be trained anew, each configuration once.

    Raises:
        StudyError: there is none.
    """
    found: list[Trial] = []
    for number in ranked:
        trial = history.trials[number]
        new = trial.parent is None and all(trial.config != other.config for other in found)
        if new and history.within(trial) and len(found) < top:
            found.append(trial)
    if not found:
        best = history.best  # or NothingFinished
        raise StudyError(
            f"confirm trains configurations from their start, and trial {best.number} went on from another trial's"
            " state; `test` judges its model on other data."
        )
    return found


def _summary(trial: Trial, looks: Sequence[Mapping[str, Any]]) -> Confirmed:
    reason = next((look["reason"] for look in looks if look["reason"]), "")
    if reason:
        return Confirmed(trial.number, trial.config, {}, {}, len(looks), reason)
    if len(looks) == 1:
        return Confirmed(trial.number, trial.config, looks[0]["metrics"], looks[0]["errors"], 1)
    columns = {name: np.array([look["metrics"][name] for look in looks]) for name in looks[0]["metrics"]}
    means = {name: float(column.mean()) for name, column in columns.items()}
    errors = {name: float(column.std(ddof=1)) / math.sqrt(len(looks)) for name, column in columns.items()}
    return Confirmed(trial.number, trial.config, means, errors, len(looks))


def kept(store: Store, history: History) -> Confirmed | None:
    """The choice that was made last, unless trials ended after it."""
    found = store.recall(CHOICE)
    if found is None or found["ended"] != history.ended:
        return None
    return Confirmed(**found, config=history.trials[found["number"]].config)


def keep(store: Store, chosen: Confirmed) -> None:
    """Have `kept` give this choice from the next commit on."""
    values = asdict(chosen)
    del values["config"]
    store.note(CHOICE, values)


def _doubt(errors: Mapping[str, float], name: str) -> str:
    return f" +- {errors[name]:.4f}" if name in errors else ""


def plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
