"""Log expected hypervolume improvement, averaged over several draws of processes, and its gradient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuneflow.history.pareto import fronts
from tuneflow.search.gp.expected_improvement import averaged, log_improvement, ratios
from tuneflow.search.gp.gaussian_process import GaussianProcess
from tuneflow.space.coordinates import Array

BEYOND = 0.1  # how far beyond the worst the reference point lies, in ranges of the costs
MOST = 200  # boxes; of more, as four objectives have, the largest


class HypervolumeImprovement:
    """Logarithm of the expected gain in the volume of cost space that the front dominates.

    The region that no point of the front dominates, up to a reference point, is cut into boxes. The costs are
    independent given the hyper-parameters, so within a box the expectation is a product over the objectives,

        sum over boxes of  prod_j  psi_j(high_j) - psi_j(low_j),     psi(t) = E max(0, t - cost) = sd h((t - mean) / sd)

    with h as in `ExpectedImprovement`: exact for any number of objectives. The front is that of the means that the
    processes predict at their own points, for each draw separately.

    Args:
        processes: for each draw one process for each objective, all over the same points.
        counted: shape (draws, n), the points that may be on the front; all by default. A draw without any is
            constant.

    Source: Emmerich, Giannakoglou, Naujoks, 2006; by boxes: Yang, Emmerich, Deutz, Baeck, 2019; in the logarithm: Ament
    et al., NeurIPS 2023.
    """

    def __init__(
        self, processes: Sequence[Sequence[GaussianProcess]], counted: NDArray[np.bool_] | None = None
    ) -> None:
        self.processes = processes
        self.cells: list[Cells | None] = []
        for draw, own in enumerate(processes):
            known = np.stack([process.predict(process.features)[0] for process in own], axis=1)
            kept = known if counted is None else known[counted[draw]]
            self.cells.append(Cells(kept, reference(known)) if len(kept) else None)

    def __call__(self, features: Array) -> Array:
        """Value at points of shape (m, f): shape (m,)."""
        each = []
        for own, cells in zip(self.processes, self.cells, strict=True):
            found = [process.predict(features) for process in own]
            each.append(np.zeros(len(features)) if cells is None else cells.log_gain(found))
        return averaged(np.array(each))[0]

    def slopes(self, features: Array) -> tuple[Array, Array]:
        """The value, shape (m,), and its gradient with respect to the features, shape (m, f)."""
        each, pulls = [], []
        for own, cells in zip(self.processes, self.cells, strict=True):
            if cells is None:
                each.append(np.zeros(len(features)))
                pulls.append(np.zeros_like(features))
                continue
            found = [process.slopes(features) for process in own]
            value, up, wide = cells.slopes([(mean, variance) for mean, variance, _, _ in found])
            each.append(value)
            pulls.append(sum(up[j][:, None] * found[j][2] + wide[j][:, None] * found[j][3] for j in range(len(found))))
        value, shares = averaged(np.array(each))
        return value, np.einsum("sm,smf->mf", shares, np.array(pulls))


class Cells:
    """The boxes that a front leaves below a reference point, and their expected dominated volume under normal costs.

    Args:
        costs: shape (n, k), lower is better; only their front counts.
        corner: shape (k,), the reference point.

    Attributes:
        edges: for each objective, the ends of boxes, ascending.
        low: shape (boxes, k), indices of their lower ends in `edges`; -1 for a box without one.
        high: shape (boxes, k), indices of their upper ends.
    """

    def __init__(self, costs: Array, corner: Array) -> None:
        low, high = _largest(*boxes(costs, corner), 2 * costs.min(0) - corner)
        self.edges = [np.unique(high[:, j]) for j in range(len(corner))]
        self.high = np.stack([np.searchsorted(edges, high[:, j]) for j, edges in enumerate(self.edges)], axis=1)
        self.low = np.stack([np.searchsorted(edges, low[:, j]) for j, edges in enumerate(self.edges)], axis=1)
        self.low[np.isneginf(low)] = -1

    def log_gain(self, costs: Sequence[tuple[Array, Array]]) -> Array:
        """Return the log of the expected volume, shape (m,), from a mean and a variance, shapes (m,), of each cost."""
        return np.asarray(averaged(self._parts(costs)[0])[0] + np.log(len(self.low)))

    def slopes(self, costs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
        """Return `log_gain`, and its derivatives with respect to the means and the variances, shapes (k, m)."""
        total, sides = self._parts(costs)
        value, shares = averaged(total)
        ups, wides = [], []
        for j, ((mean, variance), share) in enumerate(zip(costs, sides, strict=True)):
            sd = np.sqrt(variance)
            below, bell = ratios((self.edges[j][:, None] - mean) / sd)
            # d log(psi(high) - psi(low)): each end counts by its part of the difference.
            top, bottom = shares / (1 - share), shares * share / (1 - share)
            pull = np.zeros_like(below)
            np.add.at(pull, self.high[:, j], top)
            held = self.low[:, j] >= 0
            np.add.at(pull, self.low[held, j], -bottom[held])
            ups.append(-(pull * below).sum(0) / sd)
            wides.append((pull * bell).sum(0) / (2 * variance))
        return value + np.log(len(self.low)), np.array(ups), np.array(wides)

    def _parts(self, costs: Sequence[tuple[Array, Array]]) -> tuple[Array, list[Array]]:
        """Return the log of each box's part, shape (boxes, m), and psi(low) / psi(high) for each objective."""
        total, sides = np.zeros((len(self.low), len(costs[0][0]))), []
        for j, (mean, variance) in enumerate(costs):
            logs = log_improvement(mean, np.sqrt(variance), self.edges[j][:, None])
            logs = np.concatenate([logs, np.full((1, len(mean)), -np.inf)])  # place -1
            high = logs[self.high[:, j]]
            share = np.minimum(np.exp(logs[self.low[:, j]] - high), 1 - 1e-15)
            total += high + np.log1p(-share)
            sides.append(share)
        return total, sides


def reference(costs: Array) -> Array:
    """Return a point slightly worse than the worst in each objective, shape (k,), for costs of shape (n, k).

    Of all costs, not of the front alone: with a front of a single point so far, the rest would be worth nothing.
    """
    span = np.ptp(costs, axis=0)
    return np.asarray(costs.max(0) + BEYOND * np.where(span > 0, span, 1.0))


def boxes(costs: Array, corner: Array) -> tuple[Array, Array]:
    """Cut the region below `corner`, shape (k,), that no point of `costs`, shape (n, k), dominates into disjoint boxes.

    Returns:
        Lower and upper ends, shapes (boxes, k); some of the lower ones are -inf.
    """
    front = costs[next(fronts(costs))] if len(costs) else costs
    low, high = np.full((1, len(corner)), -np.inf), corner[None].astype(np.float64)
    for point in front[np.argsort(front[:, 0], kind="stable")]:
        hit = (point < high).all(1)
        kept = [(low[~hit], high[~hit])]
        rest, top = low[hit], high[hit]
        for j, value in enumerate(point):
            cut = top.copy()
            cut[:, j] = np.minimum(cut[:, j], value)
            real = cut[:, j] > rest[:, j]
            kept.append((rest[real], cut[real]))
            rest = rest.copy()
            rest[:, j] = np.maximum(rest[:, j], value)
        low, high = (np.concatenate(ends) for ends in zip(*kept, strict=True))
        for j in range(1, len(corner) - 1):
            low, high = _merged(low, high, j)
    return low, high


def _merged(low: Array, high: Array, j: int) -> tuple[Array, Array]:
    """Merge boxes that are adjacent along objective `j` and equal in the others."""
    others = np.delete(np.concatenate([low, high], axis=1), [j, low.shape[1] + j], axis=1)
    order = np.lexsort([low[:, j], *others.T])
    low, high, others = low[order], high[order], others[order]
    parted = (others[1:] != others[:-1]).any(1) | (low[1:, j] != high[:-1, j])
    return low[np.append(True, parted)], high[np.append(parted, True)]


def _largest(low: Array, high: Array, floor: Array) -> tuple[Array, Array]:
    """Return at most MOST of the boxes, those with the largest part above `floor`, shape (k,)."""
    if len(low) <= MOST:
        return low, high
    sides = np.maximum(high - np.maximum(low, floor), 0.0)
    order = np.argsort(-sides.prod(1), kind="stable")[:MOST]
    return low[order], high[order]
