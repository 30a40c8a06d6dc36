"""Decisions of a scheduler that cannot be carried out, and the reason why."""

from typing import Any

from tuneflow.errors import StudyError, plural
from tuneflow.history.history import History
from tuneflow.schedule.scheduler import Continue, Fork, Start, Stop, Wait
from tuneflow.validate import is_whole


class ImpossibleDecision(StudyError, ValueError):
    """A scheduler's decision cannot be carried out: of all that a study cannot do, this is a wrong value."""


def impossible(decision: Any, history: History) -> str:
    """Return why this decision cannot be carried out, in words that go on a sentence; empty where it can.

    A decision on a trial that has ended would be taken again and again, as it changes nothing.
    """
    if isinstance(decision, Wait):
        return ""
    if not isinstance(decision, Start | Continue | Fork | Stop):
        return "it needs to be Start, Continue, Fork, Stop or Wait"
    if isinstance(decision, Start):
        return _short(decision.until, 0)
    if not is_whole(decision.trial, 0) or decision.trial >= len(history):
        return f"there is no such trial, as the study has {plural(len(history), 'trial')}"
    return _of_its_trial(decision, history)


def _of_its_trial(decision: Continue | Fork | Stop, history: History) -> str:
    trial = history.trials[decision.trial]
    state = f"trial {trial.number} is {trial.status}"
    if isinstance(decision, Stop):
        if trial.status not in ("RUNNING", "PAUSED"):
            return f"Stop needs a running or paused trial, and {state}"
        return "" if isinstance(decision.reason, str) else "the reason needs to be a string"
    if isinstance(decision, Continue):
        if trial.status != "PAUSED":
            return f"Continue needs a paused trial, and {state}"
        # The trial may have been interrupted after its last epoch.
        return _short(decision.until, min(trial.epochs, history.epochs - 1))
    if not is_whole(decision.epoch, 1) or decision.epoch > trial.epochs:
        return f"Fork needs an epoch that was trained, and trial {trial.number} has trained {trial.epochs}"
    for name in history.settled:
        needed, got = trial.config.get(name), decision.config.get(name)
        if needed != got:
            return (
                f'Fork takes over what the step "{name}" of trial {trial.number} did, so the section "{name}" needs to'
                f" be {needed!r}, got {got!r}"
            )
    return _short(decision.until, decision.epoch)


def _short(until: Any, start: int) -> str:
    return "" if is_whole(until, start + 1) else f"until needs to be a whole number above {start}"
