"""Table: columns of plain values, on their way to pandas, polars and CSV."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from tuneflow.analysis.csv_text import csv_text
from tuneflow.analysis.json_text import json_text
from tuneflow.analysis.table_text import aligned, excerpt
from tuneflow.errors import plural
from tuneflow.markup.fragment import fragment, note, table
from tuneflow.markup.html import Markup
from tuneflow.store.atomic_file import write_bytes

KINDS = (bool, int, float, str)
EXACT = 2**63  # integers from here on have no type of 64 bits


class Table(dict[str, list[Any]]):
    """A table as a dict: the name of each column to its values, which are plain; None where there is none.

    `study.table()` and `study.curves()` return it. It prints rounded, with the middle left out where it is long.

    Args:
        columns: name to values, equally many in all; lists and dicts among these become JSON.
        kinds: name to bool, int, float or str, for the type of a column also where it has no values; those that are not
            named are found out.

    Raises:
        ValueError: the columns are not equally long.

    Example:
        >>> print(Table({"trial": [0, 1], "lr": [0.1, None]}))
        trial      lr
            0  0.1000
            1       -
        [2 rows of 2 columns]
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, type] | None = None) -> None:
        super().__init__((name, [_plain(value) for value in values]) for name, values in columns.items())
        lengths = {len(values) for values in self.values()}
        if len(lengths) > 1:
            raise ValueError(f"Table needs columns of the same length, got {sorted(lengths)}.")
        kinds = kinds or {}
        self.kinds = {name: _kind(values, kinds.get(name)) for name, values in self.items()}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return max(map(len, self.values()), default=0)

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame.

        Whole numbers with gaps are Int64, texts string, numbers float64 with NaN in the gaps; a column of several kinds
        has dtype object.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise _missing("pandas") from None
        columns = {name: pandas.Series(values, dtype=_pandas_type(self.kinds[name], values))
                   for name, values in self.items()}  # fmt: skip
        return pandas.DataFrame(columns)

    def to_polars(self) -> Any:
        """Return the table as a polars DataFrame, with null in the gaps; a column of several kinds is text.

        Raises:
            ImportError: polars is not installed.
        """
        try:
            import polars
        except ImportError:
            raise _missing("polars") from None
        types = {bool: polars.Boolean, int: polars.Int64, float: polars.Float64, str: polars.String}
        columns = ((name, self.kinds[name], values) for name, values in self.items())
        return polars.DataFrame(
            [
                polars.Series(name, _texts(values) if kind is None else values, types[kind or str])
                for name, kind, values in columns
            ]
        )

    @overload
    def to_csv(self, path: None = None) -> str: ...
    @overload
    def to_csv(self, path: str | os.PathLike[str]) -> None: ...
    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """Write the table to a file as CSV in UTF-8, or return it as text.

        Numbers are not rounded, and None is an empty field. A text that a spreadsheet would take for a formula gets an
        apostrophe in front.

        Args:
            path: the file; None returns the text.

        Raises:
            StoreError: the file cannot be written; what was there before stays.
        """
        text = csv_text(self)
        if path is None:
            return text
        write_bytes(Path(path), text.encode("utf-8", "backslashreplace"))
        return None

    def __repr__(self) -> str:
        return aligned(excerpt(self, shutil.get_terminal_size((120, 24)).columns))

    def _repr_html_(self) -> Markup:
        part = excerpt(self)
        title = f"{plural(self.rows, 'row')} of {plural(len(self), 'column')}"
        left_out = part.note.partition("; ")[2]
        return fragment(title, table(part.head, part.rows) if part.head else None, note(left_out))


def _plain(value: Any) -> Any:
    return json_text(value) if isinstance(value, list | tuple | dict) else value


def _kind(values: Iterable[Any], kind: type | None) -> type | None:
    """Return the kind of a column's values: bool, int, float or str; None where there are several."""
    kinds = {type(value) for value in values if value is not None}
    if kind is not None and (kinds <= {kind} or (kind is float and kinds <= {int, float})):
        return None if kind is int and _large(values) else kind
    if kinds <= {int, float}:
        return None if _large(values) else float if float in kinds or not kinds else int
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= set(KINDS) else None


def _large(values: Iterable[Any]) -> bool:
    return any(isinstance(value, int) and not -EXACT <= value < EXACT for value in values)


def _pandas_type(kind: type | None, values: Sequence[Any]) -> str:
    gaps = any(value is None for value in values)
    types = {bool: "boolean" if gaps else "bool", int: "Int64" if gaps else "int64", float: "float64", str: "string"}
    return "object" if kind is None else types[kind]


def _texts(values: Iterable[Any]) -> list[str | None]:
    return [value if value is None or isinstance(value, str) else json_text(value) for value in values]


def _missing(package: str) -> ImportError:
    return ImportError(f"to_{package} needs {package}, which is not installed; python -m pip install {package}.")
