"""Rows of a store: trials, reports and kept values as they are written, each with a digest by which damage is noticed.

A digest is of the values that are read, so one flipped bit in any of them is noticed. It is no signature: whoever
writes the file can write digests, too.
"""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

from tuneflow.history.trial import ENDED, Report, Status, Trial
from tuneflow.store.lazy_reports import (
    UNREADABLE,
    LazyReports,
    checked_report,
    checked_scores,
    checked_seconds,
    checked_whole,
    parsed,
)
from tuneflow.store.sqlite_errors import damaged

Row = tuple[Any, ...]

TRIAL = "number, config, status, reason, detail, parent, repeats, until, extends"
SCORES = "metrics, errors, epochs, seconds, reports"  # of a trial that has ended
REPORT = "trial, epoch, metrics, errors, seconds, at, worker"
STATUSES = frozenset(get_args(Status))
OTHER = "is not what was written"


def digest_of(values: Row) -> bytes:
    """Return the digest of the values of a row."""
    return blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest()


# Kept values and the queue.


def kept_row(key: str, value: Mapping[str, Any]) -> Row:
    """Return the row of a value that is kept under a key."""
    row = (key, json.dumps(value))
    return *row, digest_of(row)


def kept_value(path: Path, key: str, text: str, digest: bytes) -> dict[str, Any]:
    """Return the value in a row of `kept_row`.

    Raises:
        StoreError: the row is not what was written.
    """
    return _kept_object(path, f"what is kept as {key!r}", text, digest_of((key, text)) == digest)


def queue_row(config: Mapping[str, Any] | str, trial: int | None) -> Row:
    """Return the row of a configuration, or its text, in the queue; `trial` has taken it."""
    row = (config if isinstance(config, str) else json.dumps(config), _whole(trial))
    return *row, digest_of(row)


def queued_config(path: Path, text: str, trial: int | None, digest: bytes) -> dict[str, Any]:
    """Return the configuration in a row of `queue_row`.

    Raises:
        StoreError: the row is not what was written.
    """
    return _kept_object(path, "a queued configuration", text, digest_of((text, trial)) == digest)


def _kept_object(path: Path, what: str, text: str, same: bool) -> dict[str, Any]:
    if not same:
        raise damaged(path, f"{what} {OTHER}")
    try:
        return json_object(text)
    except UNREADABLE as error:
        raise damaged(path, f"{what} cannot be read ({error})") from error


# Trials.


def trial_row(trial: Trial) -> Row:
    """Return the values of a trial, in the order of TRIAL, and their digest; once it has ended SCORES, too."""
    row: Row = (
        int(trial.number),
        json.dumps(trial.config),
        trial.status,
        _text(trial.reason),
        _text(trial.detail),
        json.dumps(trial.parent) if trial.parent else None,
        _whole(trial.repeats),
        _whole(trial.until),
        int(trial.extends),
    )
    if trial.ended:
        scores = json.dumps(dict(trial.metrics)), json.dumps(dict(trial.errors))
        row = (*row, *scores, int(trial.epochs), _real(trial.seconds), LazyReports.text_of(trial.reports))
    return *row, _digest_of_trial(row)


def _digest_of_trial(row: Row) -> bytes:
    """Return the digest of what the trial's owner alone writes; others may free or take one that has not ended."""
    number, config, status, *rest = row
    return digest_of((number, config, status if status in ENDED else "", *rest))


def trial_of(path: Path, row: Row, reports: Sequence[Report] = ()) -> Trial:
    """Return the trial in a row of `trial_row`.

    Args:
        path: the file, for messages.
        row: the values of TRIAL, those of SCORES where it has ended, and the digest.
        reports: those of a trial that has not ended.

    Raises:
        StoreError: the row is not what was written.
    """
    *values, digest = row
    number, config, status, reason, detail, parent, repeats, until, extends, *scores = values
    if status not in STATUSES or digest != _digest_of_trial(tuple(values)):
        raise damaged(path, f"its row {OTHER}", number)
    metrics, errors, epochs, seconds, packed = scores or ("{}", "{}", 0, 0.0, "")
    try:
        return Trial(
            number=number,
            config=json_object(config),
            status=status,
            reason=_stored_text(reason),
            metrics=checked_scores(parsed(metrics)),
            errors=checked_scores(parsed(errors)),
            epochs=checked_whole(epochs),
            seconds=checked_seconds(seconds),
            reports=LazyReports(packed, path, number) if packed else tuple(reports),
            detail=_stored_text(detail),
            parent=_origin(parent) if parent else None,
            repeats=_stored_whole(repeats),
            until=_stored_whole(until),
            extends=bool(extends),
        )
    except UNREADABLE as error:
        raise damaged(path, f"its row cannot be read ({error})", number) from error


def report_row(number: int, report: Report) -> Row:
    """Return the values of a report, in the order of REPORT, and their digest."""
    row = (
        int(number),
        int(report.epoch),
        json.dumps(dict(report.metrics)),
        json.dumps(dict(report.errors)),
        _real(report.seconds),
        _real(report.at),
        int(report.worker),
    )
    return *row, digest_of(row)


def reports_of(path: Path, number: int, rows: Sequence[Row], last: int | None) -> list[Report]:
    """Return the reports in rows of `report_row`, ordered by epoch, of a trial that has not ended.

    Args:
        path: the file, for messages.
        number: the trial's.
        rows: their values, and the digest.
        last: the last epoch that the trial has reported, from its own row; None for one without reports.

    Raises:
        StoreError: the rows are not those that were written.
    """
    epochs = [row[1] for row in rows]
    if epochs != list(range((last or 0) - len(rows) + 1, (last or 0) + 1)) or bool(rows) != bool(last):
        raise damaged(path, "its reports are not all there", number)
    return [_report_of(path, number, row) for row in rows]


def _report_of(path: Path, number: int, row: Row) -> Report:
    *values, digest = row
    if digest_of(tuple(values)) != digest:
        raise damaged(path, f"its report of epoch {values[1]} {OTHER}", number)
    _, epoch, metrics, errors, seconds, at, worker = values
    try:
        return checked_report(epoch, parsed(metrics), parsed(errors), seconds, at, worker)
    except UNREADABLE as error:
        raise damaged(path, f"its report of epoch {epoch} cannot be read ({error})", number) from error


# Values.


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        TypeError, ValueError: there is none.
    """
    value = parsed(text)
    if not isinstance(value, dict):
        raise TypeError(f"needs to be an object, got {type(value).__name__}")
    return value


def _origin(text: str) -> tuple[int, int]:
    trial, epoch = parsed(text)
    return int(trial), int(epoch)


def _real(number: float) -> float | None:
    """Return a number as SQLite gives it back, which has no NaN."""
    return None if math.isnan(number) else float(number)


def _whole(number: int | None) -> int | None:
    return None if number is None else int(number)


def _stored_whole(value: Any) -> int | None:
    return None if value is None else checked_whole(value)


def _stored_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"needs a text, got {type(value).__name__}")
    return value


def _text(text: str) -> str:
    """Return a text as SQLite takes it, which has no half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()
