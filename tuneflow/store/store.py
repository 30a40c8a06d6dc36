"""Store: what a study needs of the place where its trials are kept."""

from typing import Any, Protocol

from tuneflow.history.trial import Report, Trial


class Store(Protocol):
    """Keeps a study's description, its trials and their reports. Several processes may share one.

    A trial that is not ended belongs to one owner, or to none while it is paused. What is written of a trial counts
    only while it is one's own. Writes are gathered until `commit`.
    """

    def describe(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The study's description: `facts`, or those that are there already."""
        ...

    def remember(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """What is kept under `key`: JSON that is there already, or `value` from now on. Committed."""
        ...

    def recall(self, key: str) -> dict[str, Any] | None:
        """What `remember` keeps under `key`, or None."""
        ...

    def note(self, key: str, value: dict[str, Any]) -> None:
        """Have `recall` give `value` from the next commit on, whatever was kept under `key`."""
        ...

    def hold(self) -> bool:
        """Be the only one to run the study until `let_go`; False while somebody who lives holds it. Committed."""
        ...

    def let_go(self) -> None:
        """Undo `hold`."""
        ...

    def changes(self) -> list[Trial]:
        """Trials that another process changed since the last call, the latest change last; at first all. What was not
        reported is left out."""
        ...

    def claim(self, most: float) -> int | None:
        """Take the next free number below `most` as one's own, or None. Committed when this returns."""
        ...

    def release(self, number: int) -> None:
        """Give back a claimed number that no trial came of."""
        ...

    def take(self, number: int) -> bool:
        """Make a trial that belongs to nobody one's own; False when somebody was faster. Committed."""
        ...

    def put(self, trial: Trial) -> None:
        """Write what is known of a trial of one's own; paused or ended, it belongs to nobody afterwards."""
        ...

    def report(self, number: int, report: Report) -> None:
        """Add a report of a trial of one's own, or replace the one of the same epoch."""
        ...

    def forget(self, number: int, after: int) -> None:
        """Remove the reports of one's own trial of epochs later than `after`."""
        ...

    def commit(self) -> list[int]:
        """Make everything written so far last; the numbers of trials that were not one's own any more."""
        ...

    def recover(self) -> list[tuple[int, int]]:
        """Free the trials of owners that died: (number, how often in a row without an epoch in between)."""
        ...

    def enqueue(self, config: dict[str, Any]) -> None:
        """Put a configuration in the queue of those to be tried before the searcher is asked. Committed."""
        ...

    def next_queued(self, number: int) -> dict[str, Any] | None:
        """Take the oldest configuration out of the queue for trial `number`."""
        ...

    def close(self) -> None: ...
