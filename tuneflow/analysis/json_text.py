"""JSON of a study's facts for machines: valid always, with stable keys."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tuneflow.analysis.confirmed import Confirmed
from tuneflow.analysis.record import StudyRecord
from tuneflow.history.trial import Trial, has_score

# The facts of a trial, beside its reports.
TRIAL_KEYS = ("number", "status", "reason", "config", "metrics", "errors", "epochs", "seconds", "parent", "repeats",
              "extends")  # fmt: skip


def json_text(value: Any) -> str:
    """Return plain values as valid JSON in one line: numbers that are not finite as strings.

    Python's float() and JavaScript's Number() read these again.

    Example:
        >>> json_text({"loss": float("inf"), "rows": [1, float("nan")]})
        '{"loss": "Infinity", "rows": [1, "NaN"]}'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def trial_facts(trial: Trial) -> dict[str, Any]:
    """Return what JSON has of a trial, without its reports."""
    return {name: getattr(trial, name) for name in TRIAL_KEYS}


def study_facts(record: StudyRecord) -> dict[str, Any]:
    """Return what JSON has of a study as a whole."""
    objective = record.objective
    return {
        "folder": record.name,
        "goals": {metric: "maximize" if up else "minimize" for metric, up in objective.goals},
        "limits": {limit.metric: [limit.least, limit.most] for limit in objective.limits},
        "statuses": dict(Counter(trial.status for trial in record.trials)),
        "confirmed": [_confirmed_facts(scores) for scores in record.confirmed],
    }


def marked_facts(record: StudyRecord, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Return what JSON has of trials: also whether each is the best or on the front, and within the limits.

    A trial without a score is neither within the limits nor beyond them: null.
    """
    chosen = {trial.number for trial in best_or_front(record)}
    return [
        {
            **trial_facts(trial),
            "best": trial.number in chosen,
            "within_limits": not record.objective.breach(trial.metrics) if has_score(trial) else None,
        }
        for trial in trials
    ]


def best_or_front(record: StudyRecord) -> list[Trial]:
    """Return the best trial of one objective, or the front of several; nothing while there is no score."""
    if record.objective.several:
        return record.front
    return [] if record.best is None else [record.best]


def _confirmed_facts(scores: Confirmed) -> dict[str, Any]:
    facts = asdict(scores)
    del facts["config"], facts["ended"]
    return facts


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
