"""Strips: the scores of all trials over one parameter, in a small chart."""

from tuneflow.analysis.parameter_axis import ParameterAxis, jitter
from tuneflow.analysis.standing import Standing, known
from tuneflow.markup.axes import Frame
from tuneflow.markup.html import Markup
from tuneflow.markup.paths import Point, crosses_of, dots_of, trials_path
from tuneflow.markup.scales import Axis
from tuneflow.space.nodes import Coordinate
from tuneflow.space.permutation import Permutation

SIZE = (260, 84)
MARGINS = (8, 14, 24, 14)


def strip(standing: Standing, place: int) -> Markup | None:
    """Return the strip of a parameter: a dot for each trial with a score, better ones higher; None for a permutation.

    Trials without a score are crosses at the lower edge.

    Args:
        standing: the trials by the score that is shown.
        place: index of the parameter's coordinate.
    """
    record = standing.record
    coordinate, column = record.space.coordinates[place], record.history.units[:, place]
    if isinstance(coordinate.whole, Permutation):
        return None
    frame = _frame(ParameterAxis(coordinate.parameter), standing.axis)
    metric = record.objective.goals[standing.goal][0]

    def points(numbers: list[int]) -> list[Point]:
        units = (column[number] + jitter(coordinate.parameter, number) for number in numbers)
        drop = frame.bottom - frame.top
        return [
            (frame.x(unit), frame.bottom - drop * standing.heights[number])
            for unit, number in zip(units, numbers, strict=True)
        ]

    parts = []
    for kind, numbers in standing.groups.items():
        drawn = known(numbers, column, standing.scores)
        parts.append(trials_path(dots_of(points(drawn)), drawn, f"dots {kind}".strip()))
    failed = known(standing.worthless, column)
    crosses = trials_path(crosses_of(points(failed)), failed, "crosses")
    return frame.svg(crosses, *parts, label=_label(metric, coordinate), class_="strip")


def _frame(across: Axis, up: Axis) -> Frame:
    return Frame(across, up, *SIZE, margins=MARGINS, ticks=(5, 0))


def _label(metric: str, coordinate: Coordinate) -> str:
    return f"{metric} of every trial over {coordinate.name}, better ones higher"
