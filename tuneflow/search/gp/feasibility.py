"""Feasibility: an acquisition times the probability of keeping to the limits, in the logarithm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from tuneflow.search.gp.expected_improvement import averaged
from tuneflow.search.gp.gaussian_process import GaussianProcess
from tuneflow.space.coordinates import Array


class Acquisition(Protocol):
    """The logarithm of an acquisition function at points of shape (m, f), shape (m,), and its gradient."""

    def __call__(self, features: Array) -> Array: ...

    def slopes(self, features: Array) -> tuple[Array, Array]: ...


@dataclass(frozen=True)
class Bound:
    """One end of a limit: a process of its breaches for each draw, and the largest feasible value on their scale."""

    processes: Sequence[GaussianProcess]
    most: float

    def kept(self) -> NDArray[np.bool_]:
        """Feasibility of the processes' own points, bool, shape (draws, n)."""
        return np.array([process.values <= self.most + 1e-12 for process in self.processes])


class FeasibleImprovement:
    """An acquisition times the probability that all bounds are kept, which are taken to be independent.

    The improvement has to be that on feasible trials. Where there are none yet, it is the same everywhere, and the
    search is for the point that is likeliest to be feasible.

    Source: Schonlau, Computer Experiments and Global Optimization, 1997; Gardner et al., Bayesian optimization with
    inequality constraints, ICML 2014.
    """

    def __init__(self, gain: Acquisition, bounds: Sequence[Bound]) -> None:
        self.gain, self.bounds = gain, bounds

    def __call__(self, features: Array) -> Array:
        found = self.gain(features)
        for bound in self.bounds:
            each = []
            for process in bound.processes:
                mean, variance = process.predict(features)
                each.append(log_ndtr((bound.most - mean) / np.sqrt(variance)))
            found = found + averaged(np.array(each))[0]
        return found

    def slopes(self, features: Array) -> tuple[Array, Array]:
        """The value, shape (m,), and its gradient with respect to the features, shape (m, f)."""
        found, slopes = self.gain.slopes(features)
        for bound in self.bounds:
            each, pulls = [], []
            for process in bound.processes:
                mean, variance, up, wide = process.slopes(features)
                sd = np.sqrt(variance)
                z = (bound.most - mean) / sd
                likely = log_ndtr(z)
                bell = np.exp(-0.5 * z * z - likely) / np.sqrt(2 * np.pi)
                each.append(likely)
                pulls.append(-bell[:, None] * (up / sd[:, None] + (z / (2 * variance))[:, None] * wide))
            value, shares = averaged(np.array(each))
            found, slopes = found + value, slopes + np.einsum("sm,smf->mf", shares, np.array(pulls))
        return found, slopes
