"""Store: the interface between a study and the place where its trials are kept."""

from typing import Any, Protocol

from tuneflow.history.trial import Report, Trial
from tuneflow.store.ownership import RemoteOwner


class Store(Protocol):
    """A study's description, its trials and their reports, as several processes may share them.

    A trial that has not ended belongs to one owner, a study object of a process, or to none while it is paused. Only
    its owner's writes count. Writes are gathered until `commit`; the methods marked "committed" write at once.

    Every method raises StoreError where the store cannot be read or written.
    """

    def describe(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the study's description: `facts`, or those that are there already. Committed."""
        ...

    def remember(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON that is kept under `key` already, or keep `value` and return it. Committed."""
        ...

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return what is kept under `key`, or None."""
        ...

    def recall_all(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return everything that is kept under keys that begin with `prefix`, in the order of the keys."""
        ...

    def note(self, key: str, value: dict[str, Any]) -> None:
        """Replace what is kept under `key` by `value`."""
        ...

    def exchange(self, key: str, before: dict[str, Any], value: dict[str, Any]) -> bool:
        """Replace what is kept under `key` by `value`; False where that is not `before` any more. Committed."""
        ...

    def hold(self) -> bool:
        """Lock the study for this owner until `let_go`; False while another owner that is alive has it. Committed."""
        ...

    def let_go(self) -> None:
        """Undo `hold`."""
        ...

    def changes(self) -> list[Trial]:
        """Return the trials that other processes changed since the last call, the latest change last; at first all."""
        ...

    def claim(self, limit: float) -> int | None:
        """Take the next free number below `limit`, or return None where there is none. Committed."""
        ...

    def release(self, number: int) -> None:
        """Give back a claimed number for which there is no trial. Committed."""
        ...

    def enter(self, trial: Trial, once: bool) -> bool:
        """Write the new trial of a number that this owner has claimed.

        With `once` it is committed, and not written where another trial without a parent has its configuration, whoever
        owns that one; then False.
        """
        ...

    def take(self, number: int) -> bool:
        """Take a paused trial; False when another owner was faster. Committed."""
        ...

    def seize(self, number: int) -> bool:
        """Take a running trial from another owner, to end it; False where it does not run any more. Committed.

        Its latest reports are among the next `changes`.
        """
        ...

    def put(self, trial: Trial) -> None:
        """Write a trial of this owner; paused or ended, it belongs to none afterwards."""
        ...

    def report(self, number: int, report: Report) -> None:
        """Add a report of this owner's trial, or replace the one of the same epoch."""
        ...

    def forget(self, number: int, after: int) -> None:
        """Remove the reports of this owner's trial for epochs later than `after`."""
        ...

    def commit(self) -> list[int]:
        """Write everything gathered; return the numbers of trials that other owners have taken over meanwhile."""
        ...

    def recover(self) -> list[tuple[int, int]]:
        """Free the trials of owners that died.

        Returns:
            (number, tries) of each, tries being how often in a row its owner died without an epoch in between.
        """
        ...

    def waiting(self) -> list[RemoteOwner]:
        """Return the owners elsewhere, which may be alive, that have trials under way or the study for themselves."""
        ...

    def enqueue(self, config: dict[str, Any]) -> None:
        """Append a configuration to the queue, which is tried before the searcher is asked. Committed."""
        ...

    def next_queued(self, number: int) -> dict[str, Any] | None:
        """Take the oldest configuration out of the queue for trial `number`; None where it is empty. Committed."""
        ...

    def close(self) -> None:
        """Write everything gathered and free this owner's trials."""
        ...
