"""Confirmed: the scores of a configuration under fresh seeds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tuneflow.analysis.score_text import error_of, score_of
from tuneflow.errors import plural, printable
from tuneflow.history.cells import settings_rows
from tuneflow.markup.fragment import fragment, pairs
from tuneflow.space.search_space import Config


@dataclass(frozen=True)
class Confirmed:
    """The scores of a trial's configuration under fresh seeds.

    Attributes:
        number: the trial's number.
        config: its configuration.
        metrics: means over the seeds, by name.
        errors: their standard errors; with one seed the trainer's own.
        seeds: number of seeds.
        reason: why there is no score; empty where there is one.
        ended: number of ended trials when it was chosen; 0 for one that was not.
    """

    number: int
    config: Config
    metrics: Mapping[str, float]
    errors: Mapping[str, float]
    seeds: int
    reason: str = ""
    ended: int = 0

    def __repr__(self) -> str:
        return printable(self.words(self.metrics))

    def _repr_html_(self) -> str:
        return fragment(self.words(self.metrics), pairs(settings_rows(self.config)))

    def words(self, metrics: Iterable[str]) -> str:
        """Return its scores in some of the metrics, or the reason why there are none."""
        names = [] if self.reason else list(metrics)
        scores = ", ".join(score_of(name, self.metrics, self.errors) for name in names) or self.reason
        circumstances = (error_of(names, self.errors), plural(self.seeds, "fresh seed"))
        return f"trial {self.number}: {scores} ({', '.join(filter(None, circumstances))})"
