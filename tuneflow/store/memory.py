"""A store in memory, gone with the process."""

from dataclasses import replace
from typing import Any

from tuneflow.trial import Report, Trial


class MemoryStore:
    """Keeps everything in dicts."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] | None = None
        self._trials: dict[int, Trial] = {}
        self._reports: dict[int, dict[int, Report]] = {}

    def describe(self, facts: dict[str, Any] | None = None) -> dict[str, Any] | None:
        self._facts = self._facts if facts is None else facts
        return self._facts

    def trials(self) -> list[Trial]:
        return [replace(t, reports=tuple(self._reports[n].values())) for n, t in sorted(self._trials.items())]

    def put(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        self._reports.setdefault(trial.number, {})

    def report(self, number: int, report: Report) -> None:
        self._reports[number][report.epoch] = report

    def forget(self, number: int, after: int) -> None:
        self._reports[number] = {e: r for e, r in self._reports[number].items() if e <= after}

    def close(self) -> None:
        pass
