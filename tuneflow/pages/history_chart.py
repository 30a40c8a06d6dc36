"""The history of a study: the score of every trial, the best so far, and what ties with it."""

import math
from collections.abc import Iterable

import numpy as np

from tuneflow.analysis.best_so_far import best_so_far
from tuneflow.analysis.lecun_start import measured_start
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.score_text import rounded_text
from tuneflow.analysis.standing import Standing
from tuneflow.analysis.ties import ties_of
from tuneflow.errors import plural
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup, element, joined
from tuneflow.markup.paths import Point, crosses_of, dots_of, pixels, trials_path
from tuneflow.markup.scales import Axis, score_axis
from tuneflow.markup.texts import text_at
from tuneflow.pages.section import PageSection

GOALS = 3  # objectives that have a chart of their own
WIDTH, HEIGHT = 560, 300
ABOVE, BELOW = -9, 19  # pixels from a dot to the baseline of its label


def history(record: StudyRecord) -> PageSection | None:
    """Return the scores of all trials by number; None before one has a score."""
    charts = [HistoryChart(record, goal) for goal in range(len(record.objective.goals))][:GOALS]
    shown = [element("figure", chart.svg) for chart in charts if chart.known]
    if not shown:
        return None
    band = " Blue dots tie with the best; the band holds what does." if ties_of(record) else ""
    note = f"A dot for each trial, pale where it was stopped; the line is the best so far.{band}"
    return PageSection("history", "History", joined(*shown), note, half=True)


class HistoryChart:
    """The scores of one objective against the trials' numbers.

    Args:
        record: the study's.
        goal: index of the objective.
    """

    def __init__(self, record: StudyRecord, goal: int = 0) -> None:
        self.record, (self.metric, self.maximize) = record, record.objective.goals[goal]
        self.standing, self.course = Standing(record, goal), best_so_far(record, goal=goal)
        self.ties = ties_of(record)
        across = Axis(-0.5, len(record.trials) - 0.5, whole=True)
        up = score_axis(self.standing.scores.tolist(), self.maximize)
        self.frame = Frame(across, up, WIDTH, HEIGHT, titles=("trial", self.metric))

    @property
    def known(self) -> bool:
        """True where a trial within the limits has a score."""
        return bool(np.isfinite(self.course.best).any())

    @property
    def svg(self) -> Markup:
        """The chart."""
        scored = int(np.isfinite(self.standing.scores).sum())
        label = f"{self.metric} of {plural(scored, 'trial')} by number, and the best so far"
        return self.frame.svg(self._band(), self._line(), *self._dots(), self._start(), self._best(), label=label)

    def _band(self) -> Markup | None:
        """Return the range of scores that tie with the best."""
        if self.ties is None:
            return None
        best, reach = self.ties.best.metrics[self.metric], self.ties.reach
        top, bottom = self.frame.y(best + reach), self.frame.y(best - reach)
        left, wide = self.frame.left, self.frame.right - self.frame.left
        return element("rect", x=left, y=pixels(top), width=wide, height=pixels(bottom - top), class_="band")

    def _line(self) -> Markup:
        """Return the best so far, in steps."""
        places = np.flatnonzero(np.isfinite(self.course.best))
        path, last = "", np.nan
        for place in places.tolist():
            value = self.course.best[place]
            if value != last:
                x, y = self.frame.at(self.course.numbers[place], value)
                path += f"H{pixels(x)}V{pixels(y)}" if path else f"M{pixels(x)} {pixels(y)}"
                last = value
        return element("path", d=f"{path}H{self.frame.right}", class_="best")

    def _dots(self) -> list[Markup | None]:
        """Return a dot for each trial with a score, and a cross at the worse end for each that ended without one."""
        frame = self.frame
        worst = frame.bottom - 4 if self.maximize else frame.top + 4
        crosses = crosses_of((frame.x(number), worst) for number in self.standing.worthless)
        dots = [self._group(numbers, f"dots {kind}".strip()) for kind, numbers in self.standing.groups.items()]
        return [trials_path(crosses, self.standing.worthless, "crosses"), *dots]

    def _group(self, numbers: Iterable[int], kind: str) -> Markup | None:
        return trials_path(dots_of(map(self._at, numbers)), numbers, kind)

    def _at(self, number: int) -> Point:
        return self.frame.at(number, self.standing.scores[number])

    def _start(self) -> Markup | None:
        """Return the mark of LeCun's start."""
        start = measured_start(self.record)
        if start is None or not math.isfinite(self._score(start.number)):
            return None
        x, y = self._at(start.number)
        ring = element("circle", cx=pixels(x), cy=pixels(y), r=6, class_="ring")
        beside = y + (BELOW if self.maximize else ABOVE)  # on the worse side, where the best so far is not
        return joined(ring, text_at(x + 6, beside, "LeCun's start"))

    def _score(self, number: int) -> float:
        return float(self.standing.scores[number])

    def _best(self) -> Markup | None:
        """Return the name of the best trial at its dot."""
        best = self.record.history.leader
        if best is None or not math.isfinite(self._score(best.number)):
            return None
        x, y = self.frame.at(best.number, best.metrics[self.metric])
        late = self.frame.across.position(best.number) > 0.6
        text = rounded_text(best.metrics[self.metric], best.errors.get(self.metric, 0.0))
        shift = ABOVE if self.maximize else BELOW
        return text_at(x, y + shift, f"trial {best.number}: {text}", "best end" if late else "best")
