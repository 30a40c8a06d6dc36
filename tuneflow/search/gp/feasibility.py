"""Feasibility: an acquisition times the probability of keeping to the limits, in the logarithm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from tuneflow.search.gp.expected_improvement import averaged, stacked
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
        value = self.gain(features)
        for bound in self.bounds:
            mean, variance = stacked(process.predict(features) for process in bound.processes)
            value = value + averaged(log_ndtr((bound.most - mean) / np.sqrt(variance)))[0]
        return value

    def slopes(self, features: Array) -> tuple[Array, Array]:
        """The value, shape (m,), and its gradient with respect to the features, shape (m, f)."""
        total, slopes = self.gain.slopes(features)
        for bound in self.bounds:
            mean, variance, up, wide = stacked(process.slopes(features) for process in bound.processes)
            sd = np.sqrt(variance)
            z = (bound.most - mean) / sd
            likely = log_ndtr(z)
            bell = np.exp(-0.5 * z * z - likely) / np.sqrt(2 * np.pi)
            pulls = -bell[..., None] * (up / sd[..., None] + (z / (2 * variance))[..., None] * wide)
            value, shares = averaged(likely)
            total, slopes = total + value, slopes + np.einsum("sm,smf->mf", shares, pulls)
        return total, slopes
