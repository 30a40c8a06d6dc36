"""Importance: how much of the differences in score each parameter is responsible for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuneflow.analysis.once import once
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import table_lines
from tuneflow.analysis.surrogate import Surrogate
from tuneflow.analysis.total_effects import total_effects
from tuneflow.errors import NothingFinished, did_you_mean, listed, printable
from tuneflow.markup.fragment import bar, fragment, note, table
from tuneflow.markup.html import Markup
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Array

WIDE = 0.5  # an interval that is wider says little
OFTEN = 0.9  # share of the draws in which the first parameter is first, or it is not certain which one is
BAR = 20  # letters of a bar of text


@dataclass(frozen=True)
class Share:
    """The importance of one parameter.

    Attributes:
        name: the parameter's dotted name.
        value: share of the variance of the score over the search space that is lost when it alone is fixed.
        low: lower end of the 90 % interval of `value`.
        high: its upper end.
        first: share of the draws in which it is the most important parameter.
    """

    name: str
    value: float
    low: float
    high: float
    first: float

    @property
    def wide(self) -> bool:
        """True if the interval is too wide to say much."""
        return self.high - self.low > WIDE


class Importance(Mapping[str, Share]):
    """Shares of the parameters by dotted name, the most important first; prints as a table.

    A share is a total effect: of the variance of the score, over configurations that are spread evenly over the search
    space, the part that is lost when this parameter alone is fixed. What several parameters do together counts for
    each of them, so the shares may add up to more than 1.

    Attributes:
        metric: the objective that it is of.
        trials: number of configurations that it was estimated from.
        explained: share of the variance of the score that the parameters explain; the rest is noise.
        notes: what to bear in mind, each a sentence; empty where nothing is.
    """

    def __init__(
        self, metric: str, trials: int, shares: Sequence[Share], explained: float, notes: Sequence[str] = ()
    ) -> None:
        self.metric, self.trials, self.explained = metric, trials, explained
        self._shares = {share.name: share for share in sorted(shares, key=lambda share: -share.value)}
        self.notes = [*_doubts(list(self._shares.values())), *notes]

    def __getitem__(self, name: str) -> Share:
        if name not in self._shares:
            near = did_you_mean(name, self._shares) or f" There are {listed(self._shares)}."
            raise KeyError(f'no parameter "{name}".{near}')
        return self._shares[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    @property
    def top(self) -> Share:
        """The most important parameter; `top.first` is the share of the draws that agree."""
        return next(iter(self._shares.values()))

    def __repr__(self) -> str:
        rows = [(share.name, f"{share.value:.2f}", _interval(share), "#" * round(BAR * min(1.0, share.value)))
                for share in self._shares.values()]  # fmt: skip
        lines = table_lines([("parameter", "share", "90 % interval", ""), *rows])
        return "\n".join([printable(self._title), *lines, *map(printable, self.notes)])

    def _repr_html_(self) -> Markup:
        rows = [(share.name, f"{share.value:.2f}", _interval(share), bar(share.value, share.name))
                for share in self._shares.values()]  # fmt: skip
        content = table(("parameter", "share", "90 % interval", ""), rows)
        return fragment(self._title, content, *(note(text) for text in self.notes))

    @property
    def _title(self) -> str:
        return f"importance for {self.metric}, {self.trials} configurations, {self.explained:.0%} explained"


@once
def importance_of(record: StudyRecord, metric: str | None = None) -> Importance:
    """Return the importance of every parameter for an objective.

    The intervals come from functions drawn from a Gaussian process, each fitted to a random three quarters of the
    trials, and the shares are of these functions over the whole search space: where the searcher looked most does not
    matter.

    Args:
        record: the study's.
        metric: one of the objectives; None for the only one.

    Raises:
        NothingFinished: too few trials have a score, or no parameter has two values.
        StudyError: no such objective, or several and none named.
    """
    if not _varied(record):
        raise NothingFinished(
            "importance: no parameter of the search space has two values; there is nothing to compare."
        )
    surrogate = Surrogate(record, metric)
    names, notes = list(record.space.parameters), _cautions(record)
    if surrogate.flat:
        shares = [Share(name, 0.0, 0.0, 0.0, 0.0) for name in names]
        return Importance(surrogate.metric, surrogate.trials, shares, 0.0, ["all scores are equal", *notes])
    effects, parts = total_effects(surrogate, stream(record.history.seed, "importance"))
    return Importance(surrogate.metric, surrogate.trials, _shares(names, effects), float(parts.mean()), notes)


def importances(record: StudyRecord) -> dict[str, Importance]:
    """Return the importance for each objective, by its metric; none of those that have too few scores yet."""
    found = {}
    for metric, _ in record.objective.goals:
        try:
            found[metric] = importance_of(record, metric)
        except NothingFinished:
            continue
    return found


def _shares(names: Sequence[str], effects: Array) -> list[Share]:
    """Return the shares of total effects, shape (draws, p); intervals are rounded outward to whole percents."""
    low, high = np.quantile(effects, [0.05, 0.95], axis=0)
    low, high = np.floor(100 * low + 1e-9) / 100, np.ceil(np.maximum(100 * high - 1e-9, 0.0)) / 100
    first = np.bincount(effects.argmax(1), minlength=len(names)) / len(effects)
    columns = zip(effects.mean(0).tolist(), low.tolist(), high.tolist(), first.tolist(), strict=True)
    return [Share(name, *column) for name, column in zip(names, columns, strict=True)]


def _varied(record: StudyRecord) -> bool:
    return any(record.space.coordinates[place].whole.levels > 1 for place in record.space.parameters.values())


def _interval(share: Share) -> str:
    return f"{share.low:.2f} to {share.high:.2f}"


def _doubts(shares: Sequence[Share]) -> list[str]:
    """Return sentences on what the trials do not suffice for; `shares` the most important first."""
    doubts = []
    top, wide = shares[0], [share.name for share in shares if share.wide]
    if len(shares) > 1 and 0 < top.first < OFTEN:
        rivals = [share.name for share in shares if share is top or share.first > (1 - OFTEN) / 2]
        alike = len(rivals) > 1 and not {*rivals} & {*wide}
        doubts.append(
            f"{' and '.join(rivals)} matter about alike"
            if alike
            else "not enough trials to tell which parameter is first"
        )
        doubts[-1] += f": {top.name} is first in {top.first:.0%} of the functions that fit the trials"
    if wide:
        doubts.append(f"not enough trials for {listed(wide)}: an interval is wider than {WIDE}")
    return doubts


def _cautions(record: StudyRecord) -> list[str]:
    if "where" in record.facts.get("space", {}):
        return ["the whole ranges count, also what where= excludes, of which no trial tells"]
    return []
