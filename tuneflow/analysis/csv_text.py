"""Columns as CSV by RFC 4180: numbers unrounded, text quoted where it needs to be."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # begin what a spreadsheet takes for a formula


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    r"""Return columns of plain values as CSV: the names first, lines that end with CR and LF.

    None is an empty field, an empty text `""`; numbers that are not finite are NaN, inf and -inf. A text of more than
    one character that a spreadsheet would take for a formula gets an apostrophe in front, by which spreadsheets
    themselves mark text.

    Example:
        >>> csv_text({"trial": [0, 1], "reason": [None, 'a "b", c']})
        'trial,reason\r\n0,\r\n1,"a ""b"", c"\r\n'
    """
    lines = [map(_field, columns), *(map(_field, row) for row in zip(*columns.values(), strict=True))]
    return "".join(",".join(line) + "\r\n" for line in lines)


def _field(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return "" if value is None else str(value)


def _quoted(text: str) -> str:
    if len(text) > 1 and text.startswith(FORMULAS):
        text = f"'{text}"
    special = not text or text != text.strip() or any(each in text for each in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text
