"""CMA-ES: evolution of a normal distribution, with a margin for whole numbers."""

import math

import numpy as np

from tuneflow.errors import listed
from tuneflow.history.history import History
from tuneflow.history.pareto import breaches, ranking
from tuneflow.search.evolution.cma_distribution import CMADistribution
from tuneflow.search.normal import ndtr, ndtri
from tuneflow.search.repair import allowed, repaired
from tuneflow.search.searcher import Latest, Searcher
from tuneflow.seeds import stream
from tuneflow.space.coordinates import Array, Coordinates
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.validate import is_number

DRAWS = 100  # of which the first inside the cube is taken
RATE = 0.2  # at which the probabilities of labels move
SMALL = 1e-9  # a distribution that is narrower than this share of every range has converged


class CMAES(Searcher):
    """Draws from a normal distribution that moves, widens and turns toward the better trials.

    For ten or more parameters, most of them continuous, and some hundreds of trials or more; it follows narrow bent
    valleys that a searcher with one width per parameter does not. It starts in the middle of the space, or of its
    priors, and as wide as they are. A generation is 4 + 3 log(d) trials, whichever searcher proposed them, in the order
    in which they end; a failed one ranks last, and a distant one counts as near the distribution's edge. Requests in
    between are draws from the current distribution. After convergence it restarts elsewhere with twice the generation
    size. With several objectives a generation is ranked by fronts.

    Whole numbers, steps and ordered choices are cells of a continuous axis, and the distribution keeps a margin: the
    neighbors of its mean stay within reach. A Choice without an order has probabilities instead, which move toward the
    labels of the better trials. The digits of an order count as whole numbers; GP, TPE and Evolution know
    more of orders. Where `where=` excludes a draw the next one counts, and after a hundred the first is repaired.

    Args:
        sigma: initial standard deviation, as a share of each range, above 0 and at most 1.

    Raises:
        ValueError: `sigma` is not such a share; when the study is made: the space has no number to search.

    Example:
        >>> import tuneflow as tn
        >>> space = tn.SearchSpace(x=tn.Float(-5.0, 5.0), y=tn.Float(-5.0, 5.0))
        >>> best = tn.minimize(lambda x, y: (x - 1) ** 2 + y**2, space, trials=100, searcher=CMAES())
        >>> best.metrics["value"] < 0.1
        True

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, 2016; the margin: Hamano, Saito, Nomura, Shirakawa, GECCO
    2022; restarts: Auger, Hansen, CEC 2005.
    """

    def __init__(self, sigma: float = 0.2) -> None:
        if not is_number(sigma) or not 0 < sigma <= 1:
            raise ValueError(f"CMAES: sigma needs to be a share of the range, above 0 and at most 1, got {sigma!r}.")
        self.sigma = float(sigma)
        self._distribution = Latest(EvolvedDistribution)

    def check(self, space: SearchSpace) -> None:
        if not Coordinates(space).numbers.any():
            what = listed(space.names) or "nothing"
            raise ValueError(f"CMAES: needs a number to search, the space has {what}; use tn.TPE() or tn.Evolution().")

    def suggest(self, space: SearchSpace, history: History, rng: np.random.Generator) -> Config:
        distribution = self._distribution(space, history, self.sigma)
        distribution.catch_up(history)
        return space.from_unit(distribution.allowed(rng, history.units) if space.where else distribution.draw(rng))


class EvolvedDistribution:
    """The distribution after all generations that have ended.

    Attributes:
        taken: number of ended trials that it has learned from.
        stretch: shape (n,), factor by which the margin widens each number; A in the paper.
        chances: the labels' probabilities, an array for each Choice without an order.
    """

    def __init__(self, space: SearchSpace, history: History, sigma: float) -> None:
        self.axes, self._seed, self._sigma = Coordinates(space), history.seed, sigma
        self.taken = self._restarts = 0
        self._numbers, self._labels = np.flatnonzero(self.axes.numbers), np.flatnonzero(self.axes.labels)
        self._whole = np.isfinite(self.axes.levels[self._numbers])
        middle = np.full(len(space), 0.5)
        low, middle, high = (space.quantile(np.full(len(space), share)) for share in (0.16, 0.5, 0.84))
        self._scale = ((high - low) / 0.68)[self._numbers]
        self._begin(middle, None)

    def _begin(self, middle: Array, size: int | None) -> None:
        self.state = CMADistribution(middle[self._numbers], self._sigma, np.diag(self._scale**2), size)
        self.stretch = np.ones(len(self._numbers))
        self.chances = [self.axes.chances(int(place)) for place in self._labels]
        self._keep_margin()

    def catch_up(self, history: History) -> None:
        """Take in every generation that is full."""
        beyond = breaches(history)
        while len(history.observed) - self.taken >= (size := self.state.size):
            numbers = np.array([trial.number for trial in history.observed[self.taken : self.taken + size]])
            self.taken += size
            order = numbers[ranking(history.comparable_costs[numbers], beyond=beyond[numbers])]
            self._learn(history.units[order], order)

    def _learn(self, units: Array, numbers: Array) -> None:
        before, better = self.state.mean, self.state.weights[: len(units) // 2]
        for column, place in enumerate(self._labels):
            self.chances[column] = self._moved(self.chances[column], units[: len(better), place], better)
        points = self._unrounded(units, numbers)
        self.state.learn(before + (points - before) / self.stretch)
        self.state.mean = before + (self.state.mean - before) * self.stretch
        if self._converged():
            self._restarts += 1
            shares = stream(self._seed, "cmaes restart", self._restarts).random(len(self.axes.levels))
            self._begin(self.axes.space.quantile(shares), 2 * self.state.size)
        self._keep_margin()

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a draw, shape (d,)."""
        mean, points = self.state.mean, self.state.draw(rng, DRAWS)
        points = mean + (points - mean) * self.stretch
        inside = ((points >= 0) & (points <= 1) | self._whole).all(1)
        return self._with_labels(points[int(inside.argmax())], rng)

    def allowed(self, rng: np.random.Generator, units: Array) -> Array:
        """Return a draw that `where=` allows, shape (d,): the first of a hundred, or one repaired toward a trial.

        Args:
            rng: the trial's.
            units: shape (n, d), the configurations of all trials.
        """
        draws = np.array([self.draw(rng) for _ in range(DRAWS)])
        found = next(allowed(self.axes, draws), None)
        return self._repaired(draws[0], rng, units) if found is None else found

    def _repaired(self, draw: Array, rng: np.random.Generator, units: Array) -> Array:
        steps = np.where(np.isnan(units), 0.0, np.square(units - draw)).sum(1)
        return repaired(self.axes, draw, rng, toward=units[steps.argmin()] if len(units) else None)

    def _with_labels(self, numbers: Array, rng: np.random.Generator) -> Array:
        unit = np.full(len(self.axes.levels), 0.5)
        unit[self._numbers] = numbers.clip(0.0, 1.0)
        for place, chances in zip(self._labels, self.chances, strict=True):
            unit[place] = (rng.choice(len(chances), p=chances) + 0.5) / len(chances)
        return unit

    def _moved(self, chances: Array, units: Array, weights: Array) -> Array:
        """Return a Choice's probabilities after a generation's better half, whose coordinates are `units`."""
        known, count = ~np.isnan(units), len(chances)
        if not known.any() or count == 1:
            return chances
        seen = np.bincount((units[known] * count).astype(int), weights[known], count)
        chances = chances + RATE * (seen - weights[known].sum() * chances)
        least = min((1 - 0.73 ** (1 / len(self.axes.levels))) / (count - 1), 0.5 / count)
        above = np.maximum(chances - least, 0.0)
        return np.asarray(least + above * (1 - count * least) / above.sum())

    def _unrounded(self, units: Array, numbers: Array) -> Array:
        """Return the continuous points that stand for the values at `units`, shape (n, d).

        A rounded number is drawn anew within its cell, and an inactive one from its whole range, given the others: so a
        coordinate that decided nothing keeps its width.
        """
        low, high = (ends[:, self._numbers] for ends in self.axes.cells(units))
        low = np.where(np.isnan(low) | self._whole & (low < 1e-9), -np.inf, low)
        high = np.where(np.isnan(high) | self._whole & (high > 1 - 1e-9), np.inf, high)
        points = np.clip(self.state.mean, low, high)
        loose = low < high
        if loose.any():
            B, D = self.state.axes
            precision = (B / D**2) @ B.T / self.state.sigma**2 / np.outer(self.stretch, self.stretch)
            for row in np.flatnonzero(loose.any(1)):
                shares = stream(self._seed, "cmaes", int(numbers[row])).random(len(self._numbers))
                for j in np.flatnonzero(loose[row]):
                    away = points[row] - self.state.mean
                    center = points[row, j] - precision[j] @ away / precision[j, j]
                    ends = low[row, j], high[row, j]
                    points[row, j] = _within(*ends, center, precision[j, j] ** -0.5, shares[j])
        return points

    def _converged(self) -> bool:
        narrow = self.state.sigma * np.sqrt(np.diag(self.state.C))[~self._whole]
        _, D = self.state.axes
        return bool((len(narrow) and narrow.max() < SMALL) or self.state.sigma < 1e-14 or D.max() > 1e7 * D.min())

    def _keep_margin(self) -> None:
        """Move the mean and widen whole numbers until a neighbor's value is drawn with a probability of alpha."""
        state, alpha = self.state, 1 / (self.state.size * len(self._numbers))
        low, high = (ends[0, self._numbers] for ends in self.axes.cells(self._everywhere(state.mean)))
        for j in np.flatnonzero(self._whole):
            width = state.sigma * self.stretch[j] * math.sqrt(state.C[j, j])
            if low[j] < 1e-9 or high[j] > 1 - 1e-9:
                edge, side = (high[j], -1.0) if low[j] < 1e-9 else (low[j], 1.0)
                state.mean[j] = edge + side * min(abs(state.mean[j] - edge), -float(ndtri(alpha)) * width)
                continue
            below, above = float(ndtr((low[j] - state.mean[j]) / width)), float(ndtr((state.mean[j] - high[j]) / width))
            inside = 1 - below - above
            below, above = max(below, alpha / 2), max(above, alpha / 2)
            over = (1 - below - above - inside) / (below + above + inside - 1.5 * alpha)
            below, above = below + over * (below - alpha / 2), above + over * (above - alpha / 2)
            left, right = -float(ndtri(below)), -float(ndtri(above))
            self.stretch[j] *= (high[j] - low[j]) / (left + right) / width
            state.mean[j] = (low[j] * right + high[j] * left) / (left + right)

    def _everywhere(self, mean: Array) -> Array:
        """Return a point of the cube, shape (1, d), with these numbers."""
        unit = np.full((1, len(self.axes.levels)), 0.5)
        unit[0, self._numbers] = mean.clip(0.0, 1.0)
        return unit


def _within(low: float, high: float, center: float, width: float, share: float) -> float:
    """Return the `share` quantile of a normal variable truncated to [low, high]; the nearer end if both are far out."""
    ends = (low - center) / width, (high - center) / width
    sign = -1.0 if ends[0] > 0 else 1.0  # the lower tail is the precise one
    left, right = sorted((sign * ends[0], sign * ends[1]))
    below, above = float(ndtr(left)), float(ndtr(right))
    if above - below < 1e-300:
        return min(max(center, low), high)
    return center + sign * width * float(ndtri(below + share * (above - below)))
