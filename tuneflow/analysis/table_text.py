"""Tables as text: numbers rounded, rows in the middle and columns before the last one left out with a note."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneflow.analysis.score_text import printable
from tuneflow.errors import listed, plural

ROWS = 20  # that are shown
LONGEST = 40  # characters of a cell,
SHORT = 20  # and where not all columns fit into a line
GAP = "..."  # in the place of rows or columns


@dataclass(frozen=True)
class Excerpt:
    """The part of a table that is shown.

    Attributes:
        head: names of the columns.
        rows: the cells.
        numbers: for each column, True if it holds numbers.
        note: what is left out, in words; empty for nothing.
    """

    head: list[str]
    rows: list[list[str]]
    numbers: list[bool]
    note: str


def excerpt(columns: Mapping[str, Sequence[Any]], width: float = math.inf) -> Excerpt:
    """Return the columns that hold a value, with their first and last rows, as text.

    Args:
        columns: name to values, all equally many.
        width: characters of a line at most; where the columns need more, texts are cut, and the columns at the end, but
            for the last one, left out.
    """
    count = max(map(len, columns.values()), default=0)
    kept = _ends(count, ROWS)
    names = [name for name, values in columns.items() if not count or any(value is not None for value in values)]
    cells = {name: [_cut(name), *_cells(columns[name], kept)] for name in names}
    if _needed(_widths(cells), range(len(cells))) > width:
        cells = {name: [head, *(_cut(cell, SHORT) for cell in rest)] for name, (head, *rest) in cells.items()}
    shown = _fitting(_widths(cells), width)
    gap = len(kept) // 2 + 1 if len(kept) < count else None
    lines = [list(line) for line in zip(*(cells[names[at]] for at in shown), strict=True)]
    numbers = [_is_numbers(columns[names[at]]) for at in shown]
    if len(shown) < len(names):
        _insert(lines, numbers, len(shown) - 1)
    if gap is not None:
        lines.insert(gap, [GAP] * len(lines[0]))
    outside = [name for at, name in enumerate(names) if at not in shown]
    note = _note(count, len(columns), [name for name in columns if name not in names], outside)
    return Excerpt(lines[0] if lines else [], lines[1:], numbers, note)


def aligned(part: Excerpt) -> str:
    """Return an excerpt as lines, numbers to the right and text to the left, with the note below."""
    lines = [part.head, *part.rows]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(_placed(*each) for each in zip(line, wide, part.numbers, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, f"[{part.note}]"])


def _placed(cell: str, width: int, number: bool) -> str:
    return cell.rjust(width) if number else cell.ljust(width)


def _ends(count: int, most: int) -> list[int]:
    """Return the places of the first and the last rows, at most so many."""
    return list(range(count)) if count <= most else [*range(most // 2), *range(count - most // 2, count)]


def _fitting(widths: Sequence[int], width: float) -> list[int]:
    """Return the places of the columns that fit into a line: the first ones and the last one."""
    places = list(range(len(widths)))
    while len(places) > 2 and _needed(widths, places) > width:
        del places[-2]
    return places


def _widths(cells: Mapping[str, Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in cells.values()]


def _needed(widths: Sequence[int], places: Sequence[int]) -> int:
    cut = len(GAP) + 2 if len(places) < len(widths) else 0
    return sum(widths[at] + 2 for at in places) - 2 + cut


def _insert(lines: list[list[str]], numbers: list[bool], at: int) -> None:
    """Put a column that stands for those left out into lines of cells."""
    for line in lines:
        line.insert(at, GAP)
    numbers.insert(at, False)


def _note(count: int, columns: int, empty: Sequence[str], outside: Sequence[str]) -> str:
    words = [f"{plural(count, 'row')} of {plural(columns, 'column')}"]
    words += [f"not shown: {listed(map(_cut, outside))}"] if outside else []
    words += [f"without a value: {listed(map(_cut, empty))}"] if empty else []
    return "; ".join(words)


def _is_numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _cells(values: Sequence[Any], kept: Sequence[int]) -> list[str]:
    """Return values as text: those of a column of similar size with equally many decimals."""
    shown = [values[at] for at in kept]
    sizes = [abs(value) for value in shown if isinstance(value, float) and value and math.isfinite(value)]
    places = None
    if sizes and min(sizes) >= 1e-3 and max(sizes) < 1e4:
        places = 4 - (math.floor(math.log10(max(sizes))) + 1 if max(sizes) >= 1 else 0)
    return [_cell(value, places) for value in shown]


def _cell(value: Any, places: int | None) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return _cut(str(value))
    if not math.isfinite(value):
        return str(value)
    if places is not None:
        return f"{value:.{places}f}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _cut(text: str, most: int = LONGEST) -> str:
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - len(GAP)]}{GAP}"
