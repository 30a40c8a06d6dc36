"""Front: the trials of a study with several objectives that no other one beats, and their scores on other data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tuneflow.analysis.front_remarks import remarks_of
from tuneflow.analysis.score_text import error_of, interval_note, settings_text, table_lines, value_text
from tuneflow.errors import StudyError, plural
from tuneflow.history.objective import Objective
from tuneflow.markup.fragment import cut, fragment, note, table
from tuneflow.study.result import Result, Scores


class Front(list[Result]):
    """The members of a front, a list of Results by number; prints as a table.

    After `study.confirm(front=True)` the table shows the means under fresh seeds.

    Args:
        results: the members.
        objective: the study's.
        metrics: names of the metrics to show.
        steps: names of the steps of the study's model.
    """

    def __init__(
        self, results: Iterable[Result], objective: Objective, metrics: Sequence[str], steps: Sequence[str] = ()
    ) -> None:
        super().__init__(results)
        self._objective, self._metrics, self._steps = objective, metrics, steps

    def test(self, data: Any) -> "FrontScores":
        """Return the metrics of each member's model on other data, with 95 % intervals; see Result.test.

        A latency is measured anew. A member may be beaten by another one there; the table names these. Its last row is
        the trained winner that they were made of, where there is one.
        """
        winner = self[0].test_winner(data) if self else None
        return FrontScores({result.number: result.test(data) for result in self}, self._objective, winner)

    def __repr__(self) -> str:
        return "\n".join([*table_lines(self._rows()), *self._footnote()]) if self else "no trial is on the front"

    def _repr_html_(self) -> str:
        if not self:
            return fragment("no trial is on the front")
        head, *rows = self._rows()
        shown, rest = cut(rows, "trials on the front")
        return fragment("Front", table(head, shown), rest, *map(note, self._footnote()))

    def _rows(self) -> list[list[str]]:
        """Return the head and a row for each member."""
        scores = {result.number: result.confirmed or result for result in self}
        remarks = remarks_of(self._objective, {number: one.metrics for number, one in scores.items()})
        remarks |= {r.number: r.confirmed.reason for r in self if r.confirmed is not None and r.confirmed.reason}
        rows = [["trial", *self._metrics, "configuration", ""]]
        for number, one in scores.items():
            cells = [value_text(name, one.metrics, one.errors) for name in self._metrics]
            rows.append([str(number), *cells, settings_text(one.config, self._steps), remarks[number]])
        return rows

    def _footnote(self) -> list[str]:
        seeds = {result.confirmed.seeds for result in self if result.confirmed is not None}
        means = [f"means over {plural(count, 'fresh seed')}" for count in seeds]
        error = max(error_of(self._metrics, (result.confirmed or result).errors) for result in self)
        notes = ", ".join([*means, *([f"+- {error}"] if error else [])])
        return [f"[{notes}]"] if notes else []


class FrontScores(Mapping[int, Scores]):
    """Metrics of the members of a front on data that no trial has seen: number to Scores; prints as a table.

    Args:
        scores: each member's, by number.
        objective: the study's.
        winner: those of the trained winner that the members were made of.

    Attributes:
        winner: as given; None without one.
    """

    def __init__(self, scores: Mapping[int, Scores], objective: Objective, winner: Scores | None = None) -> None:
        self._scores, self._objective, self.winner = dict(scores), objective, winner

    def __getitem__(self, number: int) -> Scores:
        return self._scores[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    @property
    def front(self) -> list[int]:
        """Numbers of the members that keep to the limits on these data too, and are not beaten by another one.

        Raises:
            StudyError: a metric that counts is not measured on other data.
        """
        missing = self._missing
        if missing:
            raise StudyError(f'the front on these data is not known, as "{missing[0]}" is not measured on them.')
        return [number for number, remark in self._remarks.items() if not remark]

    @property
    def _missing(self) -> list[str]:
        return [name for name in self._objective.metrics if any(name not in scores for scores in self.values())]

    @property
    def _remarks(self) -> dict[int, str]:
        values = {n: {name: one.value for name, one in scores.items()} for n, scores in self.items()}
        return remarks_of(self._objective, values)

    def __repr__(self) -> str:
        return "\n".join([*table_lines(self._rows()), *self._footnote()])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        shown, rest = cut(rows, "members")
        return fragment("on data that no trial has seen", table(head, shown), rest, *map(note, self._footnote()))

    def _rows(self) -> list[list[str]]:
        """Return the head, a row for each member, and one for the winner that they were made of."""
        names = list(dict.fromkeys([*self._objective.metrics, *(name for scores in self.values() for name in scores)]))
        names = [name for name in names if any(name in scores for scores in self.values())]
        remarks = dict.fromkeys(self, "") if self._missing else self._remarks
        lines = [(str(number), scores, remarks[number]) for number, scores in self.items()]
        lines += [] if self.winner is None else [("winner", self.winner, "")]
        rows = [["trial", *names, ""]]
        for label, scores, remark in lines:
            rows.append([label, *(str(scores[name]) if name in scores else "-" for name in names), remark])
        return rows

    def _footnote(self) -> list[str]:
        return interval_note([pair for scores in self.values() for pair in scores.items()], "intervals")
