"""The engine chosen for each structure of trials, kept with the study and shared with its workers."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from tuneflow.execute.workers.messages import EngineReport, EngineUpdate

log = logging.getLogger("tuneflow")

Kind = Literal["stacked", "single", "alone"]
FIXED = 0.25  # share of a stacked step that does not depend on how many lanes there are
ONE_BY_ONE = "lanes: training one by one: "  # begins the lines that give a reason


@dataclass(frozen=True)
class EngineTiming:
    """The engine for lanes of one structure, and the times it was chosen by.

    Attributes:
        kind: "stacked", one program for all; "single", a program replayed for each; "alone", as without lanes.
        slots: number of lanes it was measured with.
        alone: seconds of a step of one trial in plain torch.
        together: seconds of a step of all lanes, with the engine of `kind`; 0 where there is none.
        tracing: seconds that its tracing took.
        reason: why it cannot be fused; empty where it can, or where that is no faster.
    """

    kind: Kind
    slots: int
    alone: float
    together: float = 0.0
    tracing: float = 0.0
    reason: str = ""

    @property
    def gain(self) -> float:
        """The speed relative to training alone."""
        return self.alone * self.slots / self.together if self.kind != "alone" else 1.0

    def of(self, slots: int) -> float:
        """Estimated seconds of a step of `slots` lanes, in proportion but for a fixed share."""
        fixed = FIXED if self.kind == "stacked" else 0.0
        return self.together * (fixed + (1 - fixed) * slots / self.slots)


class RememberingStore(Protocol):
    """The part of a store that the cache needs: values by name, of which the first one remembered stays."""

    def recall(self, name: str) -> Any: ...
    def remember(self, name: str, value: Any) -> Any: ...


class EngineCache:
    """The engine of each structure, kept in a store so that a resumed study takes the same ones.

    Args:
        store: a study's; None keeps them in memory.
        to_come: returns how many trials are to be trained beside those submitted, as far as that is known.
        show: called with the lines to show to the user.
    """

    @runtime_checkable
    class Holder(Protocol):
        """An executor that keeps its engines in a cache, which may be replaced."""

        engines: "EngineCache"

    def __init__(
        self,
        store: RememberingStore | None = None,
        to_come: Callable[[], float] = lambda: 0.0,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self.to_come, self.show = store, to_come, show
        self._own: dict[str, Any] = {}  # every timing, in the order of the store
        self._announced: set[str] = set()

    def recall(self, structure: str, slots: int) -> EngineTiming | None:
        timing = self._all().get(_key(structure, slots))
        return None if timing is None else EngineTiming(**timing)

    def remember(self, structure: str, timing: EngineTiming) -> EngineTiming:
        """Keep a timing; where several processes measure, the first one's is kept and returned."""
        return EngineTiming(**self._keep(_key(structure, timing.slots), asdict(timing)))

    def announce(self, line: str) -> None:
        """Show and log a line once: how trials are trained, or why not together."""
        if line not in self._announced:
            self._announced.add(line)
            self._show(line)

    def update_for(self, after: int, workers: int) -> EngineUpdate:
        """The update for one of several workers.

        Args:
            after: number of timings that it has.
            workers: number of workers that share the trials to come.
        """
        return EngineUpdate(dict(list(self._all().items())[after:]), self.to_come() / workers)

    def merge(self, report: EngineReport) -> None:
        """Keep a worker's timings, and announce its lines."""
        for key, timing in report.timings.items():
            self._keep(key, timing)
        for line in report.lines:
            self.announce(line)

    def _show(self, line: str) -> None:
        self.show(line)
        log.log(logging.WARNING if line.startswith(ONE_BY_ONE) else logging.INFO, "%s", line)

    def _all(self) -> dict[str, Any]:
        while self._store is not None and (found := self._store.recall(f"timing:{len(self._own)}")) is not None:
            self._own[found["of"]] = found["timing"]
        return self._own

    def _keep(self, key: str, timing: Any) -> Any:
        while key not in self._all():
            if self._store is None:
                self._own[key] = timing
            else:
                self._store.remember(f"timing:{len(self._own)}", {"of": key, "timing": timing})
        return self._own[key]


class WorkerEngineCache(EngineCache):
    """A worker's copy of its parent's cache, with a report of what is new in it."""

    def __init__(self) -> None:
        super().__init__()
        self._report = EngineReport()

    def apply(self, update: EngineUpdate) -> None:
        self._own |= update.timings
        self.to_come = lambda: update.to_come

    def report(self) -> EngineReport:
        """Return the measurements and lines since the last report."""
        report, self._report = self._report, EngineReport()
        return report

    def _show(self, line: str) -> None:
        self._report.lines.append(line)

    def _keep(self, key: str, timing: Any) -> Any:
        if key not in self._own:
            self._report.timings[key] = timing
        return super()._keep(key, timing)


def _key(structure: str, slots: int) -> str:
    return f"{structure}:{slots}"
