"""Retention: which training states a study still needs, as functions of its history and of what is kept and wanted."""

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Trial, with_reports
from tuneflow.store.checkpoints import States
from tuneflow.store.folder import Keep

Kept = list[tuple[tuple[float, float], int]]  # (rank, number) of the ended trials whose states are kept, best first


def selected_epochs(trial: Trial, objective: Objective) -> set[int]:
    """Return the epoch that counts for a trial, in a set; an empty one without reports."""
    selected = objective.pick(trial.reports)
    return {selected.epoch} if selected else set()


def wanted_epochs(
    trial: Trial, objective: Objective, wanted: Iterable[tuple[int, int]], chosen: int | None
) -> set[int]:
    """Return the epochs of a trial whose states others need.

    Args:
        trial: the trial.
        objective: the study's.
        wanted: (trial, epoch) of the states that a scheduler may need, or a fork that has not ended.
        chosen: number of the trial that `confirm` chose, whose model is needed.
    """
    epochs = selected_epochs(trial, objective) if trial.number == chosen else set()
    return epochs | {epoch for number, epoch in wanted if number == trial.number}


def backed_by_states(trial: Trial, epochs: set[int], objective: Objective) -> Trial:
    """Return `trial` as of the last of its epochs whose states are all among those after `epochs`."""
    for count in range(len(trial.reports), 0, -1):
        cut = with_reports(trial, trial.reports[:count], objective)
        if {cut.epochs} | selected_epochs(cut, objective) <= epochs:
            return cut
    return with_reports(trial, (), objective)


def with_kept_model(best: Trial, history: History, states: States) -> Trial:
    """Return the best trial, as another one of its configuration where only the model of that one is kept."""
    others = [history.trials[number] for number in history.trainings.numbers(best)]
    kept = [trial for trial in others if selected_epochs(trial, history.objective) & states.epochs(trial.number)]
    if len(others) == 1 or not kept or any(trial.number == best.number for trial in kept):
        return best
    return replace(kept[0], metrics=best.metrics, errors=best.errors)


def origin_state(trial: Trial, trials: Sequence[Trial], kept: Callable[[int], set[int]]) -> tuple[int, int] | None:
    """Return (trial, epoch) of the state that a fork starts from; None for one that starts anew.

    That of its parent; for a trial that extends others the last one that is kept of any of them, as the epochs from
    there on can be trained again: it has their configuration and seed.

    Args:
        trial: the fork.
        trials: the study's, by number.
        kept: returns the epochs after which states of a trial are kept.
    """
    origin = trial.parent
    while origin is not None and trial.extends:
        if epochs := [epoch for epoch in kept(origin[0]) if epoch <= origin[1]]:
            return origin[0], max(epochs)
        trial = trials[origin[0]]
        origin = trial.parent
    return origin


def would_be_kept(trial: Trial, history: History, kept: Kept, limit: Keep) -> bool:
    """True if the state of a trial that ends now is kept, as far as can be seen before it has ended.

    Args:
        trial: the trial.
        history: the study's.
        kept: the trials whose states are kept.
        limit: number of trials to keep, or "all"; with several objectives the front is kept, or all.
    """
    if history.objective.several and limit != "all":
        return True
    rank = history.rank(trial)
    return math.isfinite(rank[1]) and (limit == "all" or len(kept) < limit or (rank, trial.number) < kept[-1])


def admitted(trial: Trial, history: History, kept: Kept, limit: Keep) -> tuple[Kept, list[int]]:
    """Return the trials to keep once `trial` has ended, and the numbers of those whose states are dropped.

    Args:
        trial: the trial that ended, in the history already.
        history: the study's.
        kept: the trials whose states are kept so far.
        limit: number of trials to keep, or "all"; with several objectives the front is kept, or all.
    """
    if history.objective.several and limit != "all":
        front = {other.number for other in history.front}
        dropped = [number for number in {trial.number, *(number for _, number in kept)} if number not in front]
        return [((0.0, 0.0), number) for number in sorted(front)], dropped
    rank = history.rank(trial)
    if not math.isfinite(rank[1]):
        return kept, [trial.number]
    kept = list(kept)
    if trial.repeats is not None:  # the mean of the trials of its configuration has moved
        kept = sorted((history.rank(history.trials[number]), number) for _, number in kept)
    bisect.insort(kept, (rank, trial.number))
    limit = len(kept) if limit == "all" else limit
    return kept[:limit], [number for _, number in kept[limit:]]
