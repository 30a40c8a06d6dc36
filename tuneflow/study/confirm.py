"""Confirmation: the best configurations trained under fresh seeds, so that the chosen one's score is no luck."""

import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.errors import StudyError
from tuneflow.execute.executor import Ended, Event, Executor, Reported
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trainings import means_of
from tuneflow.history.trial import WORTHLESS, Slice, Trial
from tuneflow.metrics.measured import number_text
from tuneflow.store.store import Store
from tuneflow.study.ledger import CHOICE
from tuneflow.study.retention import selected_epochs
from tuneflow.study.taken_measures import TakenMeasures
from tuneflow.train.job import Job
from tuneflow.train.module_metrics import of_structure
from tuneflow.train.protocol import TrainerProtocol

LOOK = "look "  # begins the keys of trainings under fresh seeds


@dataclass(frozen=True)
class Look:
    """One training of a trial's configuration under a fresh seed, to the epoch that counts for the trial.

    Attributes:
        rows: the number of training rows; None for the configuration's own.
    """

    number: int
    seed: int
    epoch: int
    rows: int | None = None

    @property
    def key(self) -> str:
        return f"{LOOK}{self.number} {self.seed} {self.epoch}" + ("" if self.rows is None else f" rows {self.rows}")

    @classmethod
    def of(cls, key: str) -> "Look":
        """Return the training that is kept under a key."""
        numbers = [int(word) for word in key.removeprefix(LOOK).split() if word != "rows"]
        return cls(*numbers)


@dataclass(frozen=True)
class Looks:
    """Trainings under fresh seeds; each is made once and kept with the study.

    Args:
        store: where they are kept.
        objective: the study's.
        executor: makes the executor that they are trained by.
        trainer: the trainer of one seed, on every fold.
        job: returns the job of a trial under a seed, both by number.
        following: returns a block in which so many trainings, of so many epochs in all, are shown: a function of
            their events.
        measures: those of the modules' structures; None where there is none to take.
    """

    store: Store
    objective: Objective
    executor: Callable[[], Executor]
    trainer: TrainerProtocol
    job: Callable[[int, int], Job]
    following: Callable[[int, int], AbstractContextManager[Callable[[Iterable[Event]], object]]]
    measures: TakenMeasures | None = None

    def of(self, trials: Sequence[Trial], seeds: range) -> list[Confirmed]:
        """Return the scores of each of the trials under these seeds."""
        epochs = [max(selected_epochs(trial, self.objective)) for trial in trials]
        looks = [[Look(t.number, seed, epoch) for seed in seeds] for t, epoch in zip(trials, epochs, strict=True)]
        results = self._results([look for row in looks for look in row])
        return [self._summary(t, [results[look] for look in row]) for t, row in zip(trials, looks, strict=True)]

    def at_rows(self, trial: Trial, rows: Sequence[int], seeds: range) -> list[Confirmed]:
        """Return the scores of a trial for each of these numbers of training rows, under these seeds."""
        epoch = max(selected_epochs(trial, self.objective))
        looks = [[Look(trial.number, seed, epoch, number) for seed in seeds] for number in rows]
        results = self._results([look for row in looks for look in row])
        return [self._summary(trial, [results[look] for look in row]) for row in looks]

    def _summary(self, trial: Trial, looks: Sequence[Mapping[str, Any]]) -> Confirmed:
        single: Any = self.trainer.single
        return _summary(trial, looks, () if self.measures is None else of_structure(single.metrics))

    def job_of(self, look: Look) -> Job:
        """Return the job of a training."""
        job = self.job(look.number, look.seed)
        section = job.config.get("trainer", {})
        return (
            job if look.rows is None else replace(job, config={**job.config, "trainer": {**section, "rows": look.rows}})
        )

    def _results(self, looks: Sequence[Look]) -> dict[Look, dict[str, Any]]:
        """Return for each look its `metrics` and `errors`, or the `reason` why there are none."""
        results = {look: kept for look in looks if (kept := self.store.recall(look.key)) is not None}
        new = [look for look in looks if look not in results]
        jobs = [(self.job_of(look), look.epoch) for look in new]
        trainer = self.trainer.reporting_at({look.epoch for look in new})
        with self.following(len(jobs), sum(epoch for _, epoch in jobs)) as watch:
            for index, last, end in trained(self.executor, trainer, jobs, watch):
                if last is not None and self.measures is not None:
                    last, end = self.measured(last, end, jobs[index][0])
                result = self.result_of(last, end)
                results[new[index]] = result if end.status == "FAILED" else self.store.remember(new[index].key, result)
        return results

    def measured(self, last: Reported, end: Ended, job: Job) -> tuple[Reported, Ended]:
        """Return the last report with the measures of the structure; the end is a failure where one raises."""
        assert self.measures is not None
        completed = self.measures.completed(last, self.trainer, job)
        return (last, completed) if isinstance(completed, Ended) else (replace(last, report=completed), end)

    def result_of(self, last: Reported | None, end: Ended) -> dict[str, Any]:
        """Return the result of a training as it is kept: its metrics, or the reason why it has none."""
        if end.status in WORTHLESS or last is None:
            return {"reason": f"{end.status}: {end.reason}"}
        report = last.report
        if not self.objective.complete(report.metrics):
            return {"reason": f"it came to epoch {report.epoch}, which lacks {self.objective.rare}"}
        bad = [m for m, _ in self.objective.goals if not math.isfinite(report.metrics[m])]
        if bad:
            return {"reason": f"DIVERGED: {bad[0]} is {report.metrics[bad[0]]} at epoch {report.epoch}"}
        return {"reason": "", "metrics": dict(report.metrics), "errors": dict(report.errors)}


def choose(
    looks: Looks, history: History, ranked: Sequence[int], top: int, seeds: int, log: Callable[[str], None]
) -> Confirmed:
    """Return the best of the `top` trials under `seeds` fresh seeds, with its score under as many others.

    The other seeds had no part in the choice, so the score is free of selection bias.

    Raises:
        StudyError: there is nothing to choose from, or no training came to its end.
    """
    objective, trials = history.objective, candidates(history, ranked, top)
    judged = looks.of(trials, range(seeds))
    for trial, scores in zip(trials, judged, strict=True):
        observed = trial.metrics[objective.metric]
        log(f"confirm  {scores.words(objective.metrics)}, observed {number_text(observed)}")
    able = [scores for scores in judged if not scores.reason]
    if not able:
        raise StudyError(f"confirm: no training under a fresh seed came to its end; {judged[0]!r}.")
    won = min(able, key=lambda scores: objective.rank(scores.metrics))
    (chosen,) = looks.of([history.trials[won.number]], range(seeds, 2 * seeds))
    if chosen.reason:
        raise StudyError(f"confirm: {chosen!r}: under another seed it does not come to its end.")
    log(f"confirm  chosen {chosen.words(objective.metrics)}, of other seeds")
    return replace(chosen, ended=history.ended)


def trained(
    executor: Callable[[], Executor],
    trainer: TrainerProtocol,
    jobs: Sequence[tuple[Job, int]],
    watch: Callable[[Iterable[Event]], object] = tuple,
) -> Iterator[tuple[int, Reported | None, Ended]]:
    """Train every job to its epoch, from the start; yield (index, last report, end) as they end.

    `watch` is called with the last events before the next ones are waited for, and at the end.
    """
    if not jobs:
        return
    waiting, last, running = deque(range(len(jobs))), dict[int, Reported](), executor()
    events: list[Event] = []
    try:
        while waiting or running.busy:
            while waiting and running.free:
                index = waiting.popleft()
                job, until = jobs[index]
                running.submit(Slice(index, 0, until), trainer, job, None)
            watch(events)
            events = running.wait()
            for event in events:
                if isinstance(event, Reported):
                    last[event.trial] = event
                else:
                    yield event.trial, last.pop(event.trial, None), event
        watch(events)
    finally:
        running.close()


def candidates(history: History, ranked: Sequence[int], top: int) -> list[Trial]:
    """Return the first `top` of the `ranked` trials that can be trained anew, each configuration once.

    Raises:
        StudyError: there is none.
    """
    chosen: list[Trial] = []
    lengths = _best_lengths(history)
    for number in ranked:
        origin = history.origin(history.trials[number])
        trial = lengths.get(origin.number)
        new = origin.parent is None and all(origin.config != other.config for other in chosen)
        if new and trial is not None and len(chosen) < top:
            chosen.append(trial)
    if not chosen:
        best = history.best  # or NothingFinished
        raise StudyError(
            f"confirm trains configurations from their start, and trial {best.number} went on from another trial's"
            " state; `test` judges its model on other data."
        )
    return chosen


def _best_lengths(history: History) -> dict[int, Trial]:
    """Return by number of a trial the best of it and those that extend it, where one is within the limits."""
    best: dict[int, Trial] = {}
    for trial in filter(history.within, history.finished):
        number = history.origin(trial).number
        if number not in best or history.rank(trial) < history.rank(best[number]):
            best[number] = trial
    return best


def _summary(trial: Trial, looks: Sequence[Mapping[str, Any]], once: Container[str]) -> Confirmed:
    """Return the means of looks; what is measured `once` for all keeps its own error."""
    reason = next((look["reason"] for look in looks if look["reason"]), "")
    if reason:
        return Confirmed(trial.number, trial.config, {}, {}, len(looks), reason)
    if len(looks) == 1:
        return Confirmed(trial.number, trial.config, looks[0]["metrics"], looks[0]["errors"], 1)
    means, errors = means_of([look["metrics"] for look in looks])
    own = {name: error for name, error in looks[0]["errors"].items() if name in once and errors.get(name) == 0}
    return Confirmed(trial.number, trial.config, means, errors | own, len(looks))


def last_choice(store: Store, history: History) -> Confirmed | None:
    """Return the trial that was chosen last; None where trials have ended since."""
    choice = store.recall(CHOICE)
    if choice is None or choice["ended"] != history.ended:
        return None
    return Confirmed(**choice, config=history.trials[choice["number"]].config)


def store_choice(store: Store, chosen: Confirmed) -> None:
    """Keep the choice with the study from the next commit on."""
    values = asdict(chosen)
    del values["config"]
    store.note(CHOICE, values)
