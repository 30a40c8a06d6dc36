"""The trials of a study as a table, a row each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.setting_at import setting_at
from tuneflow.analysis.table import Table
from tuneflow.history.trial import Report, Trial
from tuneflow.space.parameters import Choice, Float, Int, Parameter
from tuneflow.space.permutation import Permutation

BEFORE: dict[str, type] = {"trial": int, "status": str}
AFTER: dict[str, type] = {"epochs": int, "seconds": float, "parent": int, "parent_epoch": int, "repeats": int,
                          "reason": str}  # fmt: skip
OF_AN_EPOCH: dict[str, type] = {"trial": int, "epoch": int}
CONFIG, METRICS, ERRORS = "config.", "metrics.", "errors."  # in front of names that stand for several columns


def trial_table(record: StudyRecord) -> Table:
    """Return a row for each trial: trial, status, its score, parameters, other metrics, errors, epochs, ..., reason.

    Parameters have their dotted names and None where they are not active; an order, or a list, is JSON. Metrics are
    those of the epoch that counts, and those of goals and limits come before the parameters; the standard error of
    `accuracy` is `accuracy_error`. A name that would stand for two columns is told apart by `config.`, `metrics.` or
    `errors.` in front. For a fork, `parent` and `parent_epoch` are those of the state that it went on from.
    """
    trials, space = list(record.trials), record.space
    parameters = {name: space.coordinates[place] for name, place in space.parameters.items()}
    metrics, errors = measured_names(record.metrics, trials)
    names = column_names([*BEFORE, *AFTER], {CONFIG: parameters, METRICS: metrics, ERRORS: errors})
    columns: dict[str, list[Any]] = {"trial": [t.number for t in trials], "status": [t.status for t in trials]}
    kinds = {**BEFORE, **AFTER}
    columns |= measured_columns(trials, record.objective.metrics, [], names)
    for name, axis in parameters.items():
        columns[names[CONFIG, name]] = [setting_at(trial.config, axis.path) for trial in trials]
        kinds |= _kind_of(names[CONFIG, name], axis.whole)
    columns |= measured_columns(trials, metrics, errors, names)
    kinds |= {names[key]: float for key in names if key[0] != CONFIG}
    columns |= {"epochs": [t.epochs for t in trials], "seconds": [t.seconds for t in trials]}
    columns |= {"parent": [t.parent and t.parent[0] for t in trials]}
    columns |= {"parent_epoch": [t.parent and t.parent[1] for t in trials]}
    columns |= {"repeats": [t.repeats for t in trials], "reason": [t.reason or None for t in trials]}
    return Table(columns, kinds)


def curve_table(record: StudyRecord) -> Table:
    """Return a row for each epoch of each trial: trial, epoch, metrics, their errors, and seconds.

    Epochs of a fork count from its parent's start, and its rows begin after the epoch that it went on from.
    """
    pairs = [(trial, report) for trial in record.trials for report in trial.reports]
    reports = [report for _, report in pairs]
    metrics, errors = measured_names(record.metrics, reports)
    names = column_names([*OF_AN_EPOCH, "seconds"], {METRICS: metrics, ERRORS: errors})
    columns: dict[str, list[Any]] = {"trial": [t.number for t, _ in pairs], "epoch": [r.epoch for r in reports]}
    columns |= measured_columns(reports, metrics, errors, names)
    columns["seconds"] = [report.seconds for report in reports]
    return Table(columns, {**OF_AN_EPOCH, "seconds": float} | dict.fromkeys(names.values(), float))


def measured_names(first: Iterable[str], sources: Sequence[Trial | Report]) -> tuple[list[str], list[str]]:
    """Return the names of all metrics, some of them first, and of those that have errors."""
    metrics = dict.fromkeys([*first, *(name for source in sources for name in source.metrics)])
    errors = {name for source in sources for name in source.errors}
    return list(metrics), [name for name in metrics if name in errors]


def measured_columns(
    sources: Sequence[Trial | Report], metrics: Iterable[str], errors: Iterable[str], names: Mapping[Any, str]
) -> dict[str, list[Any]]:
    """Return the columns of metrics and of errors."""
    columns: dict[str, list[Any]] = {names[METRICS, name]: [s.metrics.get(name) for s in sources] for name in metrics}
    return columns | {names[ERRORS, name]: [s.errors.get(name) for s in sources] for name in errors}


def column_names(taken: Sequence[str], groups: Mapping[str, Iterable[str]]) -> dict[tuple[str, str], str]:
    """Return the names of columns by group and name: as it is where it stands for one column only, else with the group.

    Args:
        taken: names of other columns, which stay.
        groups: the group, such as "metrics.", to its names.
    """
    plain = {(group, name): f"{name}_error" if group == ERRORS else name for group in groups for name in groups[group]}
    counts = Counter([*taken, *plain.values()])
    used = {*taken, *(name for name, count in counts.items() if count == 1)}
    names = {}
    for (group, name), short in plain.items():
        column = short if counts[short] == 1 else group + name
        while counts[short] > 1 and column in used:
            column = group + column
        used.add(column)
        names[group, name] = column
    return names


def _kind_of(name: str, parameter: Parameter) -> dict[str, type]:
    """Return the kind of a parameter's values, if it is the same for all of them."""
    if isinstance(parameter, Float | Int):
        return {name: float if isinstance(parameter, Float) else int}
    if isinstance(parameter, Permutation):
        return {name: str}
    kinds = {type(value) for value in parameter.values if value is not None} if isinstance(parameter, Choice) else set()
    kinds = {str if kind in (list, dict) else kind for kind in kinds}
    return {name: kinds.pop()} if len(kinds) == 1 else {name: float} if kinds == {int, float} else {}
