"""Fragments of HTML for notebooks, each with the style it needs, in the colors of the page around it."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from tuneflow.markup.html import Markup, element

Item = TypeVar("Item")

ROWS = 20  # of a table in a fragment
LONG = 60  # characters of a cell from which on it may be broken into lines


@cache
def style() -> Markup:
    """The style sheet of fragments, which styles nothing outside of them."""
    return Markup(files("tuneflow.markup").joinpath("fragment.css").read_text(encoding="utf-8"))


def fragment(title: str, *content: Any) -> Markup:
    """Return a fragment: its style, a title in one line unless it is empty, and what stands below; text is escaped.

    Example:
        >>> fragment("3 trials").endswith('<p class="title">3 trials</p></div>')
        True
    """
    head = element("p", title, class_="title") if title else None
    return element("div", element("style", style()), head, *content, class_="tuneflow")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table; the first cell of a row is its name."""
    names = element("tr", *(element("th", name, scope="col") for name in head))
    return element("table", element("thead", names), element("tbody", *map(_row, rows)))


def pairs(rows: Iterable[tuple[Any, Any]]) -> Markup:
    """Return a table without a head: a name and its value in each row."""
    return element("table", element("tbody", *map(_row, rows)))


def note(text: str) -> Markup | None:
    """Return a remark below a table; None for an empty one."""
    return element("p", text, class_="note") if text else None


def bar(share: float, label: str) -> Markup:
    """Return a bar that is filled to a share of its length, with a label for screen readers."""
    percent = round(100 * min(1.0, max(0.0, share)))
    filled = element("i", style=f"width:{percent}%")
    attributes = {"aria_valuenow": percent, "aria_valuemin": 0, "aria_valuemax": 100, "aria_label": label}
    return element("div", filled, class_="bar", role="progressbar", **attributes)


def cut(items: Sequence[Item], noun: str, most: int = ROWS) -> tuple[Sequence[Item], Markup | None]:
    """Return the first items and a note on how many there are; all of them, and None, where they are few.

    Args:
        items: what is shown.
        noun: the name of several of them, such as "trials".
        most: number of items to show.
    """
    if len(items) <= most:
        return items, None
    return items[:most], note(f"the first {most} of {len(items):,} {noun}")


def _row(cells: Sequence[Any]) -> Markup:
    first, *others = cells
    return element("tr", element("th", first, scope="row"), *map(_cell, others))


def _cell(content: Any) -> Markup:
    return element("td", content, class_="long" if len(str(content)) > LONG else None)
