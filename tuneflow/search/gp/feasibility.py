"""What is to be gained within limits: an improvement times the probability of keeping to them, in the logarithm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from tuneflow.search.gp.expected_improvement import averaged
from tuneflow.search.gp.gaussian_process import GaussianProcess

Array = NDArray[np.float64]


class Acquisition(Protocol):
    """The logarithm of what is to be gained at points of shape (m, f), shape (m,), and its gradient."""

    def __call__(self, features: Array) -> Array: ...

    def slopes(self, features: Array) -> tuple[Array, Array]: ...


@dataclass(frozen=True)
class Bound:
    """One end of a limit: a process of its breaches for each draw, and the value among theirs that is just within."""

    processes: Sequence[GaussianProcess]
    most: float

    def kept(self) -> NDArray[np.bool_]:
        """Which of the processes' own points are within, shape (draws, n)."""
        return np.array([process.values <= self.most + 1e-12 for process in self.processes])


class FeasibleImprovement:
    """A gain times the probability that the bounds are kept, which are taken to be independent.

    The gain has to be that on trials within the limits. Where there are none yet, it is the same everywhere, and the
    search is for what is likeliest to keep to the limits.

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
                mean, variance = process.expects(features)
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
