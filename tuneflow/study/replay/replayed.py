"""Replayed: the outcome of a replay, which prints as a line for each slice that is not equal."""

from collections import Counter
from dataclasses import dataclass

from tuneflow.errors import plural
from tuneflow.study.replay.agreement import Verdict


@dataclass(frozen=True)
class ReplayedSlice:
    """The outcome of a slice that was trained again.

    Attributes:
        slice: what was trained, in words.
        verdict: "equal" to the last bit; "drift", as far apart as rounding explains; "differs"; or "open" for a failure
            that did not come again.
        reason: for all but "equal", the numbers that are not.
        size: the largest difference, relative to the numbers; infinite where one is missing.
    """

    slice: str
    verdict: Verdict
    reason: str = ""
    size: float = 0.0

    def __repr__(self) -> str:
        return f"{self.slice}: {self.verdict}{self.reason and f': {self.reason}'}"


@dataclass(frozen=True)
class Replayed:
    """The outcome of `study.replay`.

    Attributes:
        slices: number of slices that the study consists of.
        seed: of the choice among them; the same seed and share choose the same ones.
        findings: one for each slice that was trained again.
        remarks: what was not replayed, and the settings that were others when the study was trained.
    """

    slices: int
    seed: int
    findings: tuple[ReplayedSlice, ...]
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing differs by more than rounding explains."""
        return not self.differs

    @property
    def differs(self) -> tuple[ReplayedSlice, ...]:
        """The findings of slices that differ."""
        return tuple(finding for finding in self.findings if finding.verdict == "differs")

    def __repr__(self) -> str:
        counts = Counter(finding.verdict for finding in self.findings)
        words: dict[Verdict, str] = {"equal": "equal", "drift": "drift", "differs": "differ", "open": "open"}
        shown = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict])
        head = f"replayed {len(self.findings)} of {plural(self.slices, 'slice')} (seed {self.seed}): {shown}"
        others = (finding for finding in self.findings if finding.verdict != "equal")
        return "\n".join([head, *(f"  {line}" for line in [*map(repr, others), *self.remarks])])
