"""Tables: a DataFrame of pandas, or of another library with the same few methods, as a matrix of its columns."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneflow.errors import did_you_mean, listed

WAYS = {
    "text": "number its categories (cat.codes), make a column of each (pd.get_dummies), or drop it",
    "dates": "count from a first one, such as (dates - dates.min()).dt.days, or drop it",
    "objects": "make numbers of it, or drop it",
    "gaps": "fill them in (fillna) or drop the rows (dropna)",
}


def is_table(values: Any) -> bool:
    """True for a DataFrame: an object with columns, whose parts give arrays."""
    return hasattr(values, "columns") and hasattr(values, "to_numpy")


def matrix_of(table: Any, what: str) -> NDArray[Any]:
    """Return a table of numbers as an array of floats, shape (rows, columns).

    Args:
        table: a DataFrame.
        what: "inputs" or "targets", for messages.

    Raises:
        TypeError: a column holds something else than numbers; every such column is named.
    """
    columns = {str(name): _values(table, name) for name in table.columns}
    wrong: dict[str, list[str]] = {}
    for name, column in columns.items():
        if kind := _kind(column):
            wrong.setdefault(kind, []).append(f'"{name}"')
    if wrong:
        words = [f"{listed(names)} of {kind}: {WAYS[kind]}" for kind, names in wrong.items()]
        raise TypeError(f"Data: {what} need columns of numbers, got {'; '.join(words)}.")
    return np.stack([column.astype(np.float64) for column in columns.values()], axis=1)


def without(table: Any, names: Sequence[str]) -> tuple[Any, Any]:
    """Return a table without some columns, and those: one column as it is, a list of them as a table.

    Raises:
        ValueError: there is no such column.
    """
    for name in names if isinstance(names, list) else [names]:
        if name not in list(table.columns):
            near = did_you_mean(str(name), map(str, table.columns))
            raise ValueError(f'Data: there is no column "{name}".{near} There are {listed(map(str, table.columns))}.')
    others = [name for name in table.columns if name not in (names if isinstance(names, list) else [names])]
    return table[others], table[names]


def _values(table: Any, name: Any) -> NDArray[Any]:
    column = table[name]
    if hasattr(column, "columns"):
        raise ValueError(f'Data: two columns have the name "{name}"; give each its own.')
    return np.asarray(column.to_numpy())


def _kind(column: NDArray[Any]) -> str:
    """Return what a column holds in place of numbers; empty where it holds numbers."""
    if column.dtype.kind in "biuf":
        return ""
    if column.dtype.kind in "US":
        return "text"
    if column.dtype.kind in "Mm":
        return "dates"
    odd = [value for value in column.tolist() if not isinstance(value, numbers.Real)]
    if not odd:
        return ""
    if any(isinstance(value, str) for value in odd):
        return "text"
    return "gaps" if all(value is None or type(value).__name__ in ("NAType", "NaTType") for value in odd) else "objects"
