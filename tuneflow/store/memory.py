"""The store of a study without a folder: in memory, gone with the process."""

from typing import Any

from typing_extensions import override

from tuneflow.history.trial import Report, Trial
from tuneflow.store.ownership import RemoteOwner
from tuneflow.store.store import Store


class MemoryStore(Store):
    """A store that counts numbers and holds the queue; the study's history keeps the trials, and there is no other."""

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []  # numbers below it that were given back
        self._queue: list[dict[str, Any]] = []
        self._queued: dict[int, dict[str, Any]] = {}  # what trials were given, by their numbers
        self._kept: dict[str, dict[str, Any]] = {}

    def describe(self, facts: dict[str, Any]) -> dict[str, Any]:
        return self.remember("facts", facts)

    def remember(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        return self._kept.setdefault(key, value)

    def recall(self, key: str) -> dict[str, Any] | None:
        return self._kept.get(key)

    def recall_all(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {key: self._kept[key] for key in sorted(self._kept) if key.startswith(prefix)}

    def note(self, key: str, value: dict[str, Any]) -> None:
        self._kept[key] = value

    def exchange(self, key: str, before: dict[str, Any], value: dict[str, Any]) -> bool:
        same = self._kept.get(key) == before
        if same:
            self._kept[key] = value
        return same

    def hold(self) -> bool:
        return True

    def let_go(self) -> None:
        pass

    def changes(self) -> list[Trial]:
        return []

    def claim(self, limit: float) -> int | None:
        number = min(self._free, default=self._next)
        if number >= limit:
            return None
        if number == self._next:
            self._next += 1
        else:
            self._free.remove(number)
        return number

    def release(self, number: int) -> None:
        if number == self._next - 1:
            self._next = number
        else:
            self._free.append(number)

    @override
    def enter(self, trial: Trial, once: bool) -> bool:
        return True

    @override
    def take(self, number: int) -> bool:
        return True

    @override
    def seize(self, number: int) -> bool:
        return True

    def put(self, trial: Trial) -> None:
        pass

    def report(self, number: int, report: Report) -> None:
        pass

    def forget(self, number: int, after: int) -> None:
        pass

    def commit(self) -> list[int]:
        return []

    def recover(self) -> list[tuple[int, int]]:
        return []

    def waiting(self) -> list[RemoteOwner]:
        return []

    def enqueue(self, config: dict[str, Any]) -> None:
        self._queue.append(config)

    @override
    def next_queued(self, number: int) -> dict[str, Any] | None:
        if number not in self._queued and self._queue:
            self._queued[number] = self._queue.pop(0)
        return self._queued.get(number)

    def close(self) -> None:
        pass
