"""Rows of several trainings of one configuration, joined into one row each."""

import numpy as np

from tuneflow.history.history import History
from tuneflow.space.coordinates import Array, Places


def scores_of(history: History) -> tuple[Array, Array]:
    """Return the costs of all configurations with a score, and their standard errors, each of shape (m,).

    With one objective; a configuration that was trained several times has the mean over its trials.
    """
    finite = np.isfinite(history.costs)
    numbers, repeated = np.flatnonzero(finite), history.repeated[finite]
    same = SameConfiguration(np.where(np.isnan(repeated), numbers, repeated))
    costs, errors = history.costs[finite][:, None], history.errors[finite][:, None]
    return same.mean(costs)[:, 0], same.errors(costs, errors)[:, 0]


class SameConfiguration:
    """The rows of trials grouped by their configuration.

    Args:
        firsts: shape (n,), the number of the first trial of each row's configuration.

    Attributes:
        rows: shape (m,), the first row of each configuration, in order.
        counts: shape (m,), number of rows of each.
    """

    def __init__(self, firsts: Array) -> None:
        _, rows, groups, counts = np.unique(firsts, return_index=True, return_inverse=True, return_counts=True)
        order = np.argsort(rows)
        self.rows: Places = rows[order]
        self.counts = counts[order].astype(float)
        self._groups = np.argsort(order)[groups]

    def mean(self, values: Array) -> Array:
        """Return the means over each configuration's rows, shape (m, k), of `values`, shape (n, k)."""
        return np.asarray(self._sum(values) / self.counts[:, None])

    def errors(self, values: Array, errors: Array) -> Array:
        """Return the standard errors of these means, shape (m, k); NaN where none is known.

        A training without an error of its own has the spread of the trainings of one configuration as its error.

        Args:
            values: shape (n, k).
            errors: shape (n, k), their standard errors, NaN where not known.
        """
        with np.errstate(over="ignore"):
            variances = np.where(np.isnan(errors), self._spread(values), np.square(errors))
        return np.asarray(np.sqrt(self._sum(variances)) / self.counts[:, None])

    def _spread(self, values: Array) -> Array:
        """Return the variance of trainings of one configuration, shape (k,), pooled over all; NaN without any."""
        with np.errstate(invalid="ignore"):  # of scores that are infinite
            away = values - self.mean(values)[self._groups]
        sound = np.isfinite(away).all(1) & (self.counts > 1)[self._groups]
        freedom = sound.sum() - len(np.unique(self._groups[sound]))
        return np.asarray(np.square(away[sound]).sum(0) / (freedom if freedom else np.nan))

    def _sum(self, values: Array) -> Array:
        total = np.zeros((len(self.counts), values.shape[1]))
        np.add.at(total, self._groups, values)
        return total
