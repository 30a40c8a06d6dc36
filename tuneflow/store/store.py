"""Store: what a study needs of the place where its trials are kept."""

from typing import Any, Protocol

from tuneflow.trial import Report, Trial


class Store(Protocol):
    """Keeps a study's description, its trials and their reports."""

    def describe(self, facts: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The study's description: written when `facts` are given, None where there is none yet."""
        ...

    def trials(self) -> list[Trial]:
        """Every trial by number, with its reports; what is summarised from reports is left empty."""
        ...

    def put(self, trial: Trial) -> None:
        """Add a trial, or replace what is kept of it; its reports stay."""
        ...

    def report(self, number: int, report: Report) -> None:
        """Add a report of trial `number`, or replace the one of the same epoch."""
        ...

    def forget(self, number: int, after: int) -> None:
        """Remove the trial's reports of epochs later than `after`."""
        ...

    def close(self) -> None: ...
