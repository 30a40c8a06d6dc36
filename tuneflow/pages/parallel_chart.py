"""Parallel coordinates: an axis for each parameter and each objective, and a line through them for each trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuneflow.analysis.parameter_axis import ParameterAxis
from tuneflow.analysis.record import StudyRecord
from tuneflow.analysis.short_names import short_names
from tuneflow.analysis.standing import Standing
from tuneflow.markup.axes import picture
from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import Point, line_of, pixels, trials_path
from tuneflow.markup.scales import Axis
from tuneflow.markup.texts import LETTER, text_at
from tuneflow.pages.section import PageSection
from tuneflow.space.coordinates import Array

WIDTH, HEIGHT = 1120, 340
LEFT, RIGHT, TOP, BOTTOM = 76, 1050, 34, 290  # of the axes, in pixels
SLOT = 316  # below an axis, for trials that have no value on it
MOST = 14  # axes of parameters
SHADES = 5  # of the lines, by score

NOTE = "A line for each trial, darker for better scores; drag along an axis to keep the trials that cross it there."


@dataclass(frozen=True)
class _Parallel:
    """An axis of the chart.

    Attributes:
        name: as it is shown.
        whole: the parameter's whole name, or the metric and its direction.
        axis: its scale.
        values: of all trials, NaN without one.
        missing: the word for trials without a value.
    """

    name: str
    whole: str
    axis: Axis
    values: Array
    missing: str

    @cached_property
    def ys(self) -> list[float]:
        """Places of all trials along the axis, in pixels."""
        values, drop = self.values.tolist(), BOTTOM - TOP
        return [BOTTOM - self.axis.position(v) * drop if math.isfinite(v) else SLOT for v in values]


def parallel_chart(record: StudyRecord) -> PageSection | None:
    """Return the parallel coordinates of all ended trials; None with fewer than two, or with a single axis."""
    standing = Standing(record)
    numbers = [number for group in standing.groups.values() for number in group]
    every = standing.worthless + numbers
    parameters = [column for column in _parameters(record) if _varies(column, every)]
    columns = [*parameters[:MOST], *_goals(record, standing)]
    if len(every) < 2 or len(columns) < 2:
        return None
    places = np.linspace(LEFT, RIGHT, len(columns)).tolist()
    room = places[1] - places[0]
    axes = (_axis(column, x, every, room) for column, x in zip(columns, places, strict=True))
    label = f"parallel coordinates of {len(every)} trials over {', '.join(column.whole for column in columns)}"
    height = HEIGHT if any(column.ys[number] == SLOT for column in columns for number in every) else BOTTOM + 12
    chart = picture(WIDTH, height, *_lines(standing, columns, places), *axes, label=label, class_="parallel wide")
    left_out = len(parameters) - MOST
    more = f" {left_out} more parameters are left out." if left_out > 0 else ""
    return PageSection("parallel", "Parallel coordinates", element("figure", chart, tabindex="0"), NOTE + more)


def _parameters(record: StudyRecord) -> list[_Parallel]:
    names, units = short_names(record.space.parameters, record.metrics), record.history.units
    return [
        _Parallel(names[name], name, ParameterAxis(coordinate.parameter), units[:, place], "not active")
        for name, place in record.space.parameters.items()
        if (coordinate := record.space.coordinates[place]).whole.width == 1
    ]


def _varies(column: _Parallel, numbers: Sequence[int]) -> bool:
    """True unless all trials have the same value, or none."""
    return len({column.ys[number] for number in numbers}) > 1


def _goals(record: StudyRecord, standing: Standing) -> list[_Parallel]:
    columns = []
    for goal, (metric, maximize) in enumerate(record.objective.goals):
        own = standing if goal == 0 else Standing(record, goal)
        whole = f"{metric}, {'more' if maximize else 'less'} is better"
        columns.append(_Parallel(metric, whole, own.axis, own.scores, "no score"))
    return columns


def _lines(standing: Standing, columns: Sequence[_Parallel], places: Sequence[float]) -> list[Markup | None]:
    """Return the lines of all trials in groups of one shade, the best ones over the others."""

    def group(numbers: Sequence[int], kind: str) -> Markup | None:
        lines = (line_of(_line(number, columns, places), rough=True) for number in numbers)
        return trials_path("".join(lines), numbers, f"lines {kind}")

    shades: list[list[int]] = [[] for _ in range(SHADES)]
    groups = standing.groups
    for number in sorted(groups["stopped"] + groups[""]):
        shades[min(SHADES - 1, int(standing.heights[number] * SHADES))].append(number)
    drawn = [group(numbers, f"shade{shade}") for shade, numbers in enumerate(shades)]
    return [group(standing.worthless, "bad"), *drawn, group(groups["best"], "best")]


def _line(number: int, columns: Sequence[_Parallel], places: Sequence[float]) -> list[Point]:
    return [(x, column.ys[number]) for column, x in zip(columns, places, strict=True)]


def _axis(column: _Parallel, x: float, numbers: Sequence[int], room: float) -> Markup:
    """Return an axis with its name above it, its ticks beside it, and a word below it where a trial has no value.

    Args:
        column: its values.
        x: its place.
        numbers: of the trials that are drawn.
        room: pixels to the next axis.
    """
    line = element("path", d=line_of([(x, TOP), (x, BOTTOM)]), class_="axis")
    ticks = [(BOTTOM - column.axis.position(value) * (BOTTOM - TOP), text) for value, text in column.axis.ticks()]
    marks = element("path", d="".join(f"M{pixels(x - 4)} {pixels(y)}h4" for y, _ in ticks), class_="axis")
    texts = (text_at(x - 7, y + 4, text, "tick end halo") for y, text in ticks)
    name = text_at(x, TOP - 14, _cut(column.name, room), "title middle")
    gap = any(column.ys[number] == SLOT for number in numbers)
    missing = text_at(x, SLOT + 18, column.missing, "tick middle") if gap else None
    return element(
        "g", element("title", column.whole), line, marks, *texts, name, missing, class_="brush", data_x=pixels(x)
    )


def _cut(text: str, room: float) -> str:
    letters = int(room / LETTER)
    return text if len(text) <= letters else f"…{text[1 - letters :]}"
