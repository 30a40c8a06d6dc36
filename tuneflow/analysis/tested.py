"""Tested: the metrics of a trial's model on data that no trial has seen."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuneflow.errors import plural, printable
from tuneflow.metrics.measured import Estimate


@dataclass(frozen=True)
class Tested:
    """The result of testing one trial's model, as `study.test` and `result.test` keep it with the study.

    Attributes:
        trial: the trial's number.
        estimates: name of the metric to its value with a 95 % interval.
        ended: number of trials that had ended by then.
    """

    trial: int
    estimates: Mapping[str, Estimate]
    ended: int

    @property
    def rows(self) -> int:
        """Number of rows that it was tested on; 0 where no metric is over rows."""
        return max((one.examples for one in self.estimates.values()), default=0)

    def words(self, metrics: Iterable[str]) -> str:
        """Return its values in some of the metrics, those that were tested, with their intervals."""
        values = ", ".join(f"{name} {self.estimates[name]}" for name in metrics if name in self.estimates)
        rows = f" (95 % interval over {plural(self.rows, 'row')})" if self.rows else ""
        return f"trial {self.trial}: {values or 'no such metric'}{rows}"

    def __repr__(self) -> str:
        return printable(self.words(self.estimates))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain numbers and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Tested":
        """Return what `to_json` described."""
        estimates = {name: Estimate(**values) for name, values in data["estimates"].items()}
        return cls(data["trial"], estimates, data["ended"])
