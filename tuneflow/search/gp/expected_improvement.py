"""Log expected improvement, averaged over several processes, and its gradient."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import erfcx, log_ndtr

from tuneflow.search.gp.gaussian_process import GaussianProcess
from tuneflow.space.coordinates import Array

FAR = -50.0  # below it, the ratios of the normal distribution are had from their series


class ExpectedImprovement:
    """Logarithm of the expected improvement on the best mean that a process predicts at its own points.

        EI = sd h(z),   h(z) = phi(z) + z Phi(z),   z = (best - mean) / sd

    averaged over the processes. The logarithm has useful slopes also where EI itself underflows to zero.

    With noisy scores the improvement is of the predicted mean, not of the observation: sd is the standard deviation of
    the change of the mean after one evaluation,

        sd^2 = v^2 / (v + error),   v the variance of the score, error that of the observation

    so a point pays where a good mean is expected, and less where one noisy evaluation would reveal little.

    Args:
        processes: all conditioned on the same points.
        error: variance of the error of one observation; 0 where scores are exact.

    Source: Mockus, 1978; Jones et al., 1998; in the logarithm: Ament et al., Unexpected improvements to expected
    improvement for Bayesian optimization, NeurIPS 2023; the change of the mean: Frazier, Powell, Dayanik, The
    knowledge-gradient policy for correlated normal beliefs, INFORMS Journal on Computing, 2009.
    """

    def __init__(self, processes: Sequence[GaussianProcess], error: float = 0.0) -> None:
        self.processes, self.error = processes, error
        self.best = np.array([[process.predict(process.features)[0].min()] for process in processes])

    def __call__(self, features: Array) -> Array:
        """Value at points of shape (m, f): shape (m,)."""
        mean, variance = stacked(process.predict(features) for process in self.processes)
        return averaged(log_improvement(mean, np.sqrt(self._change(variance)), self.best))[0]

    def slopes(self, features: Array) -> tuple[Array, Array]:
        """The value, shape (m,), and its gradient with respect to the features, shape (m, f)."""
        mean, variance, up, wide = stacked(process.slopes(features) for process in self.processes)
        share = variance / (variance + self.error)  # of the variance, what one look takes away
        sd, wide = np.sqrt(self._change(variance)), wide * (share * (2 - share))[..., None]
        below, bell = ratios((self.best - mean) / sd)
        pulls = (bell[..., None] * wide / (2 * sd[..., None]) - below[..., None] * up) / sd[..., None]
        value, shares = averaged(log_improvement(mean, sd, self.best))
        return value, np.einsum("sm,smf->mf", shares, pulls)

    def _change(self, variance: Array) -> Array:
        """Return the variance of the change of the mean after one observation."""
        return variance * (variance / (variance + self.error))


def log_improvement(mean: Array, sd: Array, best: Array | float) -> Array:
    """Logarithm of the expected improvement on `best`, lower being better, of normal scores; shapes that broadcast."""
    z = (best - mean) / sd
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        near = np.log(np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) + z * np.exp(log_ndtr(z)))
        far = -0.5 * z * z - 0.5 * np.log(2 * np.pi) + np.log(_tail(z))
    return np.asarray(np.where(z > -1.0, near, far) + np.log(sd))


def _tail(z: Array) -> Array:
    """h(z) / phi(z) for z < 0."""
    mills = np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2))
    inverse = 1 / np.square(np.minimum(z, FAR))
    series = inverse * (1 - inverse * (3 - 15 * inverse))
    return np.where(z > FAR, np.maximum(1 + z * mills, 1e-300), series)


def ratios(z: Array) -> tuple[Array, Array]:
    """Return Phi(z) / h(z) and phi(z) / h(z)."""
    bell = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    below = np.exp(log_ndtr(z))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        tail = _tail(z)
        mills = np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2))
        gain = bell + z * below
        return np.where(z > -1.0, below / gain, mills / tail), np.where(z > -1.0, bell / gain, 1 / tail)


def stacked(each: Iterable[tuple[Array, ...]]) -> list[Array]:
    """Return the arrays of several processes as one array of each kind, the processes along its first axis."""
    return [np.array(kind) for kind in zip(*each, strict=True)]


def averaged(each: Array) -> tuple[Array, Array]:
    """Return the logarithm of the mean of exponentials over the first axis, and the share of each."""
    top = each.max(0)
    lifted = np.exp(each - top)
    total = lifted.sum(0)
    return top + np.log(total / len(each)), lifted / total
