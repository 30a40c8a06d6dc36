"""Texts of a picture: where they stand, and apart from each other."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tuneflow.markup.html import Markup, element
from tuneflow.markup.paths import pixels

LETTER = 6.2  # pixels of a letter of a tick's text, about


def text_at(x: float, y: float, text: str, class_: str = "", **attributes: Any) -> Markup:
    """Return a text at a position; classes `middle` and `end` say which part of it is there, `title` and `tick` how."""
    return element("text", text, x=pixels(x), y=pixels(y), class_=class_ or None, **attributes)


def spread_out(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Return positions of labels near `places`, at least `least` apart and between `low` and `high` if they fit.

    Example:
        >>> spread_out([10.0, 12.0], least=10, low=0, high=100)
        [6.0, 16.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[float]] = []  # sum of the first places that its members ask for, number of members
    for rank, index in enumerate(order):
        groups.append([places[index] - rank * least, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    first = [total / count for total, count in groups for _ in range(int(count))]
    room = max(low, high - (len(order) - 1) * least)
    shifted = [min(max(start, low), room) + rank * least for rank, start in enumerate(first)]
    return [shifted[order.index(index)] for index in range(len(places))]


def apart(places: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return every n-th of the labeled places, with the smallest n by which the texts do not touch."""
    for every in range(1, len(places) + 1):
        left = list(places[::every])
        ends = pairwise(left)
        if all(abs(b - a) > LETTER * (len(s) + len(t)) / 2 + 6 for (a, s), (b, t) in ends):
            return left
    return list(places[:1])
