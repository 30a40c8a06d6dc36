"""As little of a DataFrame as is used, so that no test needs pandas."""

import numpy as np


class Column:
    """A column of a table, as pandas has it: an array by `to_numpy`."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def to_numpy(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        return self.values


class Table:
    """A table of named columns of equal length."""

    def __init__(self, **columns):
        self._columns, self.columns = columns, list(columns)

    def __getitem__(self, names):
        return Table(**{name: self._columns[name] for name in names}) if isinstance(names, list) else self._of(names)

    def _of(self, name):
        return Column(self._columns[name])

    def to_numpy(self):
        return np.stack(list(self._columns.values()), 1)

    def __len__(self):
        return len(next(iter(self._columns.values())))
