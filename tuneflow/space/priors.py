"""Priors: beliefs about good values, as densities over a parameter's unit interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from tuneflow.validate import is_number


@dataclass(frozen=True)
class Normal:
    """The expectation that the best value of a Float or Int lies near `mean`.

    Random and Sobol draw from it, and searchers that model scores start from it. It never rules anything out.

    Args:
        mean: the likeliest value; in the parameter's range.
        sd: how far off it may well be; in factors of ten where the parameter is `log`, else in its own units.
        uniform: the share of draws, from 0 to 1, that know nothing of it.

    Example:
        >>> from tuneflow import Float
        >>> Float(1e-5, 1.0, log=True, prior=Normal(0.01, sd=0.5))
        Float(1e-05, 1.0, log=True, prior=Normal(mean=0.01, sd=0.5, uniform=0.2))

    Source: the share that is uniform follows Hvarfner et al., piBO, ICLR 2022, and Mallik et al., PriorBand, 2023.
    """

    mean: float
    sd: float
    uniform: float = 0.2

    def check(self, what: str, low: float, high: float) -> None:
        """Raise ValueError or TypeError, opening with `what`, unless this suits a parameter from `low` to `high`."""
        for word, value in (("mean", self.mean), ("sd", self.sd), ("uniform", self.uniform)):
            if not is_number(value):
                raise TypeError(f"{what}: the prior's {word} needs to be a finite number, got {value!r}.")
        if not low <= self.mean <= high:
            raise ValueError(f"{what}: the prior's mean needs to lie in the range, got {self.mean}; widen the range.")
        if self.sd <= 0:
            raise ValueError(f"{what}: the prior's sd needs to be > 0, got {self.sd}; for a fixed value use Constant.")
        if not 0 <= self.uniform <= 1:
            raise ValueError(f"{what}: the prior's uniform needs to be a share from 0 to 1, got {self.uniform}.")

    def to_json(self) -> dict[str, Any]:
        """Return what a store keeps of the prior."""
        return {"mean": float(self.mean), "sd": float(self.sd), "uniform": float(self.uniform)}


class Curve:
    """A density over the unit interval; this one is flat."""

    def quantile(self, share: float) -> float:
        """Return the point below which a `share` of the mass lies."""
        return share

    def density(self, place: float) -> float:  # noqa: ARG002
        return 1.0


@dataclass(frozen=True)
class Bell(Curve):
    """A normal density cut off at 0 and 1, and a flat one, of which `uniform` is the share."""

    mean: float
    sd: float
    uniform: float

    @cached_property
    def _normal(self) -> tuple[NormalDist, float, float]:
        normal = NormalDist(self.mean, self.sd)
        return normal, normal.cdf(0.0), normal.cdf(1.0) - normal.cdf(0.0)

    def density(self, place: float) -> float:
        normal, _, mass = self._normal
        return (1 - self.uniform) * normal.pdf(place) / mass + self.uniform

    def quantile(self, share: float) -> float:
        normal, below, mass = self._normal
        low, high = 0.0, 1.0
        for _ in range(53):
            middle = (low + high) / 2
            if (1 - self.uniform) * (normal.cdf(middle) - below) / mass + self.uniform * middle < share:
                low = middle
            else:
                high = middle
        return high


class Steps(Curve):
    """Cells of equal length with a weight each; weights sum to 1."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._sums = [0.0, *accumulate(weights)]

    def density(self, place: float) -> float:
        count = len(self._weights)
        return self._weights[min(int(place * count), count - 1)] * count

    def quantile(self, share: float) -> float:
        count = len(self._weights)
        cell = max(i for i in range(count) if self._weights[i] > 0 and (self._sums[i] <= share or i == 0))
        inside = (share - self._sums[cell]) / self._weights[cell]
        return (cell + min(max(inside, 0.0), 1 - 1e-9)) / count
