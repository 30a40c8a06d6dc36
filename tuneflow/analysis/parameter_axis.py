"""ParameterAxis: the scale of a parameter, on which trials stand where the unit cube has them."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from tuneflow.markup.scales import Axis, LabelAxis, LogAxis
from tuneflow.markup.ticks import Tick, log_label
from tuneflow.space.parameters import Choice, Parameter, Range

LONGEST = 14  # letters of a label
CLOSE = 0.18  # share of the axis within which an end has no other tick


class ParameterAxis(Axis):
    """The scale of a parameter over coordinates of the unit cube: logarithmic where the parameter is.

    Options of a Choice are in their order; numbers among them in theirs, where the Choice has none.

    Args:
        parameter: a Float, an Int or a Choice.
    """

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(0.0, 1.0)
        self.parameter = parameter
        self.ranks = _ranks(parameter) if isinstance(parameter, Choice) else []

    @override
    def measure(self, value: float) -> float:
        if not self.ranks:
            return value
        count = len(self.ranks)
        inside = value * count
        cell = min(max(int(inside), 0), count - 1) if inside == inside else 0
        return (self.ranks[cell] + inside - cell) / count

    @override
    def position(self, value: float) -> float:
        return min(1.0, max(0.0, self.measure(value)))

    @override
    def ticks(self, most: int = 6) -> list[Tick]:
        if isinstance(self.parameter, Choice):
            labels = [_short(label) for label in self.parameter.values]
            order = sorted(range(len(labels)), key=self.ranks.__getitem__)
            shown = LabelAxis([labels[place] for place in order]).ticks(most)
            return [((order[int(rank)] + 0.5) / len(labels), label) for rank, label in shown]
        ticks = [(self.parameter.to_unit(value), text) for value, text in _numbers(self.parameter, most)]
        return _between([(self.parameter.to_unit(end), text) for end, text in _ends(self.parameter)], ticks)


def jitter(parameter: Parameter, number: int) -> float:
    """Return how far a trial's dot is moved from its coordinate, so that those of one value are apart.

    It is 0 for parameters of more than twelve values, and depends on nothing but the trial's number.
    """
    if parameter.levels > 12:
        return 0.0
    return ((number * 0.618034) % 1 - 0.5) * 0.6 / parameter.levels


def _ends(parameter: Parameter) -> list[Tick]:
    assert isinstance(parameter, Range)
    return [(end, log_label(end)) for end in dict.fromkeys((parameter.low, parameter.high))]


def _between(ends: list[Tick], ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ends, and between them the ticks that are not close to one."""
    inner = [tick for tick in ticks if all(abs(tick[0] - end) > CLOSE for end, _ in ends)]
    return [ends[0], *inner, *ends[1:]]


def _numbers(parameter: Parameter, most: int) -> Sequence[Tick]:
    assert isinstance(parameter, Range)
    whole = isinstance(parameter.low, int)
    if parameter.step is not None or parameter.low == parameter.high:
        return [(value, log_label(value)) for value in parameter.grid(most)]
    kind = LogAxis if parameter.log else Axis
    return kind(parameter.low, parameter.high, whole).ticks(most)


def _ranks(parameter: Choice) -> list[int]:
    """Return the place of each option along the axis."""
    values = parameter.values
    numbers = not parameter.ordered and all(type(value) in (int, float) for value in values)
    order = sorted(range(len(values)), key=values.__getitem__) if numbers else list(range(len(values)))
    return [order.index(place) for place in range(len(values))]


def _short(label: Any) -> str:
    text = log_label(label) if type(label) in (int, float) else str(label)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
