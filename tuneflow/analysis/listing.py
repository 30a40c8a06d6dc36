"""The trials of a study as text, the best first: what `python -m tuneflow show` prints."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import printable, table_lines, value_text
from tuneflow.analysis.setting_at import is_active, setting_at
from tuneflow.history.pareto import ranking
from tuneflow.history.trial import Trial, has_score
from tuneflow.runtime.precision import label

Column = tuple[str, Callable[[Trial], str]]  # its head, and the cell of a trial


def listing(record: StudyRecord, most: int = 20) -> str:
    """Return the best trials with their configurations as text, the best first.

    A column `front` marks the members of the front of several objectives, a column `limits` what is beyond them.

    Args:
        record: of a study or folder.
        most: number of trials to show.
    """
    ranked = ranked_trials(record)
    columns = _columns(record)
    rows = [[head for head, _ in columns], *([cell(trial) for _, cell in columns] for trial in ranked[:most])]
    more = f", the best {most} shown" if len(ranked) > most else ""
    runtime = record.facts.get("runtime") or {}
    arithmetic = label(runtime.get("precision", "fp32"), runtime.get("channels_last", False))
    head = f"{record.name}: {counted(record)}{more}{arithmetic and f', {arithmetic}'}"
    confirmed = [f"confirmed: {scores.words(record.objective.metrics)}" for scores in record.confirmed]
    grown = [f"grown: {change}" for change in record.grown]
    return "\n".join([printable(head), *table_lines(rows), *map(printable, [*confirmed, *grown, *record.exposures])])


def counted(record: StudyRecord) -> str:
    """Return the number of trials of each status in words: `7 DONE, 1 FAILED`."""
    counts = Counter(trial.status for trial in record.trials)
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trials"


def ranked_trials(record: StudyRecord) -> list[Trial]:
    """Return the ended trials with a score, the best first; of several objectives by fronts, those beyond limits last.

    Each has its own score, also where its configuration was trained several times.
    """
    objective = record.objective
    scored = [trial for trial in record.trials if trial.ended and has_score(trial)]
    if not scored:
        return []
    costs = np.array([objective.costs(trial.metrics) for trial in scored])
    beyond = np.array([objective.breach(trial.metrics) for trial in scored])
    return [scored[place] for place in ranking(costs, beyond=beyond)]


def _columns(record: StudyRecord) -> list[Column]:
    objective, front = record.objective, {trial.number for trial in record.front}
    columns: list[Column] = [("trial", lambda trial: str(trial.number)), ("status", lambda trial: trial.status)]
    if objective.several:
        columns.append(("front", lambda trial: "yes" if trial.number in front else ""))
    if objective.limits:
        columns.append(("limits", lambda trial: "beyond" if objective.breach(trial.metrics) else "within"))
    columns += [(metric, partial(_score, metric)) for metric in record.metrics]
    columns += [("epochs", lambda trial: str(trial.epochs)), ("seconds", lambda trial: f"{trial.seconds:.1f}")]
    paths = {name: record.space.coordinates[at].path for name, at in record.space.parameters.items()}
    return columns + [(name, partial(_setting, path)) for name, path in paths.items()]


def _score(metric: str, trial: Trial) -> str:
    return value_text(metric, trial.metrics, {})


def _setting(path: tuple[str, ...], trial: Trial) -> str:
    """Return a trial's value at a coordinate as text: a number, a label, or "-" where it is not active."""
    value = setting_at(trial.config, path)
    if value is None and not is_active(trial.config, path):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
