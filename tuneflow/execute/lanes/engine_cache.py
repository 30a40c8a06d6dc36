"""Notes: how trials of a structure are trained, where that is kept, and how workers learn of it."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from tuneflow.execute.workers.messages import EngineReport, EngineUpdate

log = logging.getLogger("tuneflow")

Kind = Literal["stacked", "single", "alone"]
FIXED = 0.25  # share of a stacked step that does not depend on how many lanes there are


@dataclass(frozen=True)
class EngineTiming:
    """How lanes of one structure are trained, and why.

    Attributes:
        kind: "stacked", one program for all; "single", a program replayed for each; "alone", as without lanes.
        seats: for how many lanes it was measured.
        alone: seconds of a step of one trial in plain torch.
        together: seconds of a step of all seats, with the engine of `kind`; 0 where there is none.
        tracing: seconds that its tracing took.
        reason: why it is not fused; empty where it is, or where that is no faster.
    """

    kind: Kind
    seats: int
    alone: float
    together: float = 0.0
    tracing: float = 0.0
    reason: str = ""

    @property
    def gain(self) -> float:
        """How many times as fast as alone."""
        return self.alone * self.seats / self.together if self.kind != "alone" else 1.0

    def of(self, seats: int) -> float:
        """Seconds of a step of so many seats, by rule of three."""
        fixed = FIXED if self.kind == "stacked" else 0.0
        return self.together * (fixed + (1 - fixed) * seats / self.seats)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RememberingStore(Protocol):
    """What a store has."""

    def recall(self, name: str) -> Any: ...
    def remember(self, name: str, value: Any) -> Any: ...


class EngineCache:
    """Where it is kept how lanes are trained, so that a study that goes on takes the same engines.

    Args:
        store: a study's; None keeps it in memory.
        to_come: how many trials are to be trained beside those that were submitted, as far as that is known.
        show: is given lines for whoever watches.
    """

    @runtime_checkable
    class Kept(Protocol):
        """An executor that keeps some."""

        notes: "EngineCache"

    def __init__(
        self,
        store: RememberingStore | None = None,
        to_come: Callable[[], float] = lambda: 0.0,
        show: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._store, self.to_come, self.show = store, to_come, show
        self._own: dict[str, Any] = {}  # all that is known here, in the order of the store
        self._said: set[str] = set()

    def recall(self, structure: str, seats: int) -> EngineTiming | None:
        known = self._known().get(_key(structure, seats))
        return None if known is None else EngineTiming(**known)

    def remember(self, structure: str, pace: EngineTiming) -> EngineTiming:
        """Keep it; of several processes that measure, the first one's stays."""
        return EngineTiming(**self._keep(_key(structure, pace.seats), pace.to_json()))

    def say(self, words: str) -> None:
        """Show and log, once, how trials are trained, or why not together."""
        if words not in self._said:
            self._said.add(words)
            self._tell(words)

    def brief(self, after: int, workers: int) -> EngineUpdate:
        """For one of so many workers, which has the first `after` paces."""
        return EngineUpdate(dict(list(self._known().items())[after:]), self.to_come() / workers)

    def hear(self, news: EngineReport) -> None:
        """Keep and say what a worker has found out."""
        for key, pace in news.paces.items():
            self._keep(key, pace)
        for words in news.words:
            self.say(words)

    def _tell(self, words: str) -> None:
        self.show(words)
        log.log(logging.WARNING if words.startswith("not fused") else logging.INFO, "%s", words)

    def _known(self) -> dict[str, Any]:
        while self._store is not None and (found := self._store.recall(f"pace:{len(self._own)}")) is not None:
            self._own[found["of"]] = found["pace"]
        return self._own

    def _keep(self, key: str, pace: Any) -> Any:
        while key not in self._known():
            if self._store is None:
                self._own[key] = pace
            else:
                self._store.remember(f"pace:{len(self._own)}", {"of": key, "pace": pace})
        return self._own[key]


class WorkerEngineCache(EngineCache):
    """A worker's: what it was told, and what it is to tell."""

    def __init__(self) -> None:
        super().__init__()
        self._news = EngineReport()

    def take(self, brief: EngineUpdate) -> None:
        self._own |= brief.paces
        self.to_come = lambda: brief.to_come

    def _tell(self, words: str) -> None:
        self._news.words.append(words)

    def news(self) -> EngineReport:
        """What was found out since the last time."""
        made, self._news = self._news, EngineReport()
        return made

    def _keep(self, key: str, pace: Any) -> Any:
        if key not in self._own:
            self._news.paces[key] = pace
        return super()._keep(key, pace)


def _key(structure: str, seats: int) -> str:
    return f"{structure}:{seats}"
