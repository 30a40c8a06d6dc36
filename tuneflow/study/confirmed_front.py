"""Confirmation of a front: each member's configuration trained under fresh seeds, and the front of the means."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.front_remarks import remarks_of
from tuneflow.errors import StudyError
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.pareto import ranking
from tuneflow.store.store import Store
from tuneflow.study.confirm import Looks

FRONT = "confirmed front"  # the key of what was confirmed


def check_front(front: bool, objective: Objective) -> None:
    """Raise StudyError unless `front` of `confirm` is as the number of objectives asks for."""
    if objective.several and not front:
        raise StudyError("confirm compares trials by one objective, and this study has several; use front=True.")
    if front and not objective.several:
        raise StudyError(f"confirm: front=True needs several objectives, got one, {objective.metric}; leave it out.")


def confirm_front(
    looks: Looks, history: History, top: int | None, seeds: int, log: Callable[[str], None]
) -> list[Confirmed]:
    """Return the means of the front's members under `seeds` fresh seeds, by number.

    Args:
        looks: trains them.
        history: the study's.
        top: number of members, the least crowded ones, its ends first; None for all.
        seeds: number of trainings of each.
        log: called with a line for each.

    Raises:
        StudyError: there is no front, or every member went on from another trial's state.
    """
    objective = history.objective
    able = [trial for trial in history.front if history.origin(trial).parent is None]
    if not able:
        why = "they went on from other trials' states" if history.front else "there are none"
        raise StudyError(f"confirm trains the configurations of the front from their start, and {why}.")
    order = ranking(np.array([objective.costs(trial.metrics) for trial in able]))
    judged = looks.of([able[place] for place in sorted(order[:top])], range(seeds))
    remarks = remarks_of(objective, {scores.number: scores.metrics for scores in judged})
    for scores in judged:
        remark = "" if scores.reason else remarks[scores.number]
        log(f"confirm  {scores.words(objective.metrics)}{remark and f', {remark}'}")
    return [replace(scores, ended=history.ended) for scores in judged]


def last_front(store: Store, history: History) -> list[Confirmed]:
    """Return the members that were confirmed last; none where trials have ended since."""
    kept = store.recall(FRONT)
    if kept is None or kept["ended"] != history.ended:
        return []
    return [Confirmed(**values, config=history.trials[values["number"]].config) for values in kept["members"]]


def store_front(store: Store, members: Sequence[Confirmed]) -> None:
    """Keep the members with the study from the next commit on."""
    values = [asdict(scores) for scores in members]
    for member in values:
        del member["config"]
    store.note(FRONT, {"ended": members[0].ended, "members": values})
