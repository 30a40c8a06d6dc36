"""Reports of ended trials, which are parsed on first use: a study of 10,000 trials opens without parsing any."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from tuneflow.history.trial import Report
from tuneflow.store.sqlite_errors import damaged

UNREADABLE = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)  # raised for what was changed

_DECODER = json.JSONDecoder()


def parsed(text: str) -> Any:
    """Return the JSON in a text that begins and ends with it, in half of the time of json.loads.

    Raises:
        ValueError: there is none.
    """
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError("it is no JSON")
    return value


def checked_scores(value: Any) -> dict[str, float]:
    """Return `value`, parsed from JSON, as metrics or their errors.

    Raises:
        TypeError, OverflowError: it is something else, or no float holds a number of it.
    """
    if not isinstance(value, dict):
        raise TypeError("metrics need to be an object of numbers")
    for number in value.values():
        if type(number) is not float:
            return {name: _real(number, "a metric") for name, number in value.items()}
    return value


def checked_seconds(value: Any) -> float:
    """Return a stored time; NaN for one that is not known.

    Raises:
        TypeError, ValueError, OverflowError: it is something else.
    """
    if value is None:
        return math.nan
    seconds = _real(value, "a time")
    if math.isinf(seconds):
        raise ValueError("a time needs to be finite")
    return seconds


def checked_whole(value: Any, low: int = 0) -> int:
    """Return a stored whole number of at least `low`, which SQLite can hold.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if type(value) is not int:
        raise TypeError(f"needs a whole number, got {type(value).__name__}")
    if not low <= value < 2**63:
        raise ValueError(f"needs a whole number from {low} to 2**63")
    return value


def _real(value: Any, what: str) -> float:
    if type(value) not in (float, int):
        raise TypeError(f"{what} needs to be a number, got {type(value).__name__}")
    return float(value)


def _reports(text: str) -> tuple[Report, ...]:
    return tuple(checked_report(*row) for row in parsed(text))


def checked_report(epoch: Any, metrics: Any, errors: Any, seconds: Any, at: Any, worker: Any) -> Report:
    """Return the report of these stored values.

    Raises:
        TypeError, ValueError, OverflowError: one of them is something else.
    """
    scores = checked_scores(metrics), checked_scores(errors)
    return Report(
        checked_whole(epoch, 1), *scores, checked_seconds(seconds), checked_seconds(at), checked_whole(worker)
    )


class LazyReports(Sequence[Report]):
    """The reports of an ended trial, parsed on first use.

    Args:
        text: the JSON that the store keeps.
        path: the store's file, for messages.
        trial: the trial's number, for messages.

    Raises:
        StoreError: on first use, where the text is none of reports.
    """

    def __init__(self, text: str, path: Path, trial: int) -> None:
        self._text: str | None = text
        self._path, self._trial = path, trial
        self._reports: tuple[Report, ...] = ()

    def _parsed(self) -> tuple[Report, ...]:
        if self._text is not None:
            try:
                self._reports = _reports(self._text)
            except UNREADABLE as error:
                raise damaged(self._path, f"its reports cannot be read ({error})", self._trial) from error
            self._text = None
        return self._reports

    @staticmethod
    def text_of(reports: Sequence[Report]) -> str:
        """Return reports as the text that this class reads."""
        return json.dumps([[r.epoch, r.metrics, r.errors, r.seconds, r.at, r.worker] for r in reports])

    def __len__(self) -> int:
        return len(self._parsed())

    @overload
    def __getitem__(self, index: int) -> Report: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Report, ...]: ...
    def __getitem__(self, index: int | slice) -> Report | tuple[Report, ...]:
        return self._parsed()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._parsed() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._parsed())
